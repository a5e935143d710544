"""What every branch gets drafted in a round: the drafter proposes, measured times and late outcomes decide."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..drafters.base import Drafter, VerifiedDraft
from ..executor.cost_table import CostTable
from ..executor.logits import Logits
from ..records import Draft, SequenceState
from ..scheduler.beam_job import BeamJob
from ..scheduler.jobs import DecodeJob
from ..verifiers.base import DraftCheck, Verification
from .calibration import AcceptanceEstimator
from .gate import Gate
from .goodput import floor, select, values

DEPTH = 16
"""Levels of the deepest draft."""


class Speculator:
    """A drafter and what is known of its worth."""

    def __init__(self, cost: CostTable, draft_tokens: int | None = None) -> None:
        self.cost = cost
        """Seconds of the target's passes."""
        self.draft_tokens = draft_tokens
        """Nodes of every draft; None weighs expected tokens against measured times."""
        self.drafter: Drafter | None = None
        self.gate = Gate()
        self._calibrations: defaultdict[str, AcceptanceEstimator] = defaultdict(AcceptanceEstimator)
        self._asked = False
        """Whether the drafter was asked when drafts were wanted last."""
        self._learning = 0.0
        """Seconds that it took to learn from the last pass."""

    def start(self, drafter: Drafter | None) -> None:
        """Go on with a drafter of which nothing is known."""
        self.drafter, self.gate = drafter, Gate()
        self._calibrations.clear()
        self._asked, self._learning = False, 0.0

    def calibration(self, by: str) -> AcceptanceEstimator:
        """What the claims of one kind of drafter were worth."""
        return self._calibrations[by]

    def settle(self, outcomes: Mapping[str, Sequence[tuple[float, bool]]]) -> None:
        """Learn from a round what claims were worth: (claimed confidence, accepted) by kind of drafter."""
        for by in outcomes.keys() | self._calibrations.keys():
            self.calibration(by).learn(outcomes.get(by, ()))

    def _values(self, draft: Draft) -> list[float]:
        return values(draft, self.calibration(draft.by).worth)

    @property
    def spent(self) -> tuple[float, int, tuple[int, ...]]:
        """Seconds and passes of the draft model so far, and tokens that left at each of its exits."""
        drafter = self.drafter
        return (0.0, 0, ()) if drafter is None else (drafter.seconds, drafter.passes, tuple(drafter.left))

    def draft(
        self,
        jobs: Sequence[DecodeJob],
        verified: int,
        room: int,
        *,
        together: bool = True,
        beams: Sequence[BeamJob] = (),
    ) -> None:
        """Give each branch the draft that is worth verifying in a pass of ``verified`` branches.

        ``room`` slots are free for drafts; ``together`` says that all drafts are verified in one pass, rather than each
        alone. Prompts that the pass reads as well are paid for anyway; counting their time would make drafts look
        cheap. Beams are drafted whole or not at all, as far as there is room.
        """
        for job in jobs:
            job.draft = Draft()
        for beam in beams:
            beam.drop_drafts()
        if self.drafter is None:
            return
        drafted, left = self._fitting(self.drafter, beams, room)
        plan = self._plan(self.drafter, jobs, verified, left)
        if jobs:  # where all wait to be verified, the last answer counts
            self._asked = plan is not None
        if plan is None and not drafted:
            return
        asked = jobs if plan is not None else []
        floor, depth = plan or (0.0, 0)
        began = time.perf_counter()
        self.watch(asked)
        rows = [*(job.row for job in asked), *(row for beam in drafted for row in beam.group.rows)]
        drafts = self.drafter.propose(rows, floor, depth)
        mine, others = drafts[: len(asked)], iter(drafts[len(asked) :])
        for beam in drafted:
            beam.drafts = [next(others) for _ in beam.group.rows]
        if asked:  # of the time only the share of these rows tells whether drafting for them pays
            took = (time.perf_counter() - began) * len(asked) / len(rows)
            self._choose(asked, mine, verified, left, took, together=together)

    def _fitting(self, drafter: Drafter, beams: Sequence[BeamJob], room: int) -> tuple[list[BeamJob], int]:
        """The jobs whose beams there is room to draft, and the room that is left."""
        fitting = []
        for beam in beams:
            nodes = drafter.beam_nodes(beam.group)
            if 0 < nodes <= room:
                fitting.append(beam)
                room -= nodes
        return fitting, room

    def _plan(self, drafter: Drafter, jobs: Sequence[DecodeJob], verified: int, room: int) -> tuple[float, int] | None:
        """Least value of a node and levels of the drafts of single branches; None without drafts."""
        most = self.draft_tokens
        depth = DEPTH if most is None else min(DEPTH, most)
        while depth and len(jobs) * drafter.nodes_drawn(depth) > room:
            depth -= 1  # a drawn draft that turned out too large must not be dropped
        if not jobs or not depth or room < 1:
            return None
        if most is not None:
            return 0.0, depth
        least = floor(self.cost, verified, room)
        return (least, depth) if least < 1 and self.gate.open() else None

    def _choose(
        self,
        jobs: Sequence[DecodeJob],
        drafts: Sequence[Draft],
        verified: int,
        room: int,
        took: float,
        *,
        together: bool,
    ) -> None:
        """Give the jobs what of their drafts is to be verified; ``took`` seconds it took to draft."""
        if self.draft_tokens is not None:
            for job, draft in zip(jobs, drafts, strict=True):
                job.draft = self._cut(draft, self.draft_tokens)
            return
        began = time.perf_counter()
        worths = [self._values(draft) for draft in drafts]
        if together:
            chosen = select(drafts, worths, self.cost, room)
        else:
            chosen = [select([draft], [worth], self.cost, room)[0] for draft, worth in zip(drafts, worths, strict=True)]
        # What was drawn must not be chosen by what it is.
        final = [draft if draft.law is not None else kept for draft, kept in zip(drafts, chosen, strict=True)]
        self._judge(final, verified, took + time.perf_counter() - began)
        for job, draft in zip(jobs, final, strict=True):
            job.draft = draft

    def learn(self, claims: Sequence[DraftCheck], verdicts: Sequence[Verification | None], logits: Logits) -> None:
        """Tell the drafter what the target said of all verified tokens, if it wants to know and was asked."""
        if self.drafter is None or not self.drafter.wants or not self._asked or not claims:
            return
        began = time.perf_counter()
        self.drafter.learn(told(claims, verdicts, logits, self.drafter.wants))
        self._learning = time.perf_counter() - began

    def forget_rows(self, rows: Sequence[SequenceState]) -> None:
        """Beams that are no more."""
        if self.drafter is not None:
            for row in rows:
                self.drafter.forget(row)

    def watch(self, jobs: Sequence[DecodeJob]) -> None:
        """Show the drafter what was committed since it looked last."""
        for job in jobs:
            if self.drafter is not None and job.watched < len(job.row.tokens):
                self.drafter.observe(job.row, job.watched)
                job.watched = len(job.row.tokens)

    def forget(self, job: DecodeJob) -> None:
        """A branch leaves; what it wrote may be of use to others, unless drafting rests."""
        job.draft = None
        if self.drafter is not None:
            if self.gate.resting == 0:
                self.watch([job])
            self.drafter.forget(job.row)
            job.watched = 0

    def _cut(self, draft: Draft, most: int) -> Draft:
        """The best ``most`` nodes; of a drawn draft the first, which are chosen whatever they turned out to be."""
        if draft.law is not None or len(draft) <= most:
            return draft.keep(range(min(len(draft), most)))
        worth = self._values(draft)
        best = sorted(range(len(draft)), key=lambda node: -worth[node])[:most]  # of equals parents stand first
        return draft.keep(sorted(best))

    def _judge(self, chosen: Sequence[Draft], verified: int, took: float) -> None:
        """Tell the gate what the round promises, the drafter's time included; only a part of what was drafted may be
        verified in the next pass. Learning from that will take what it took last time.
        """
        part = verified / len(chosen)
        gain = sum(sum(self._values(draft)) for draft in chosen)
        seconds = self.cost(verified, sum(map(len, chosen)) * part) + took * part + self._learning
        self.gate.learn(verified + gain * part, seconds, verified, self.cost(verified))


def told(
    claims: Sequence[DraftCheck], verdicts: Sequence[Verification | None], logits: Logits, count: int
) -> list[VerifiedDraft]:
    """Of every branch whose logits are finite the ``count`` likeliest tokens after each verified one."""
    best, chances = logits.top(count)
    every = []
    for claim, verdict in zip(claims, verdicts, strict=True):
        if verdict is not None:
            at = slice(claim.first, claim.first + 1 + len(claim.draft))
            every.append(VerifiedDraft(claim.row, claim.draft, verdict.tokens, best[at], chances[at]))
    return every
