"""Drafts for rows of requests that were sent early: of a token table alone, and only nodes that are nearly free."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import NO_DRAFT, Draft
from ..speculation.goodput import values
from ..speculation.speculator import DEPTH, Speculator
from .early_jobs import Spare
from .jobs import Job


def draft_early(jobs: Sequence[Job], spare: Spare, speculator: Speculator, room: int) -> None:
    """Store drafts in early jobs that a pass verifies beside others; they may take ``room`` slots.

    A node must save as much as an early row, see :mod:`.early_jobs`, its chance being that of its request times that it
    is accepted. Drafts of a model and random draws take time or room of their own, so that there are none of them.
    """
    drafter = speculator.drafter
    if drafter is None:
        return
    writing = [job for job in jobs if job.sequences]
    for job in writing:
        job.take_drafts([NO_DRAFT] * len(job.sequences))
    alone = [job for job in writing if len(job.sequences) == 1 and job.sequences[0].group is None]
    fixed = speculator.draft_tokens is not None or speculator.gate.paused
    if not alone or fixed or speculator.usage().passes or drafter.nodes_drawn(1):
        return
    for job in alone:
        speculator.observe_committed(job.sequences[0])
    drafts = drafter.propose([job.sequences[0] for job in alone], spare.least_value, DEPTH)
    for job, draft in zip(alone, drafts, strict=True):
        reached = values(draft, speculator.estimator(draft.by).probabilities)
        kept = _affordable(draft, [job.priority * value for value in reached], spare, room)
        room -= len(kept)
        if kept:
            job.take_drafts([draft.keep(kept)])


def _affordable(draft: Draft, chances: Sequence[float], spare: Spare, room: int) -> list[int]:
    """The nodes that pay, likeliest first, in ascending order; of equals parents stand first."""
    kept: list[int] = []
    for node in sorted(range(len(draft)), key=lambda node: -chances[node]):
        if len(kept) >= room or not spare.affords(0, 1, chances[node]):
            break
        spare.add(0, 1)
        kept.append(node)
    return sorted(kept)
