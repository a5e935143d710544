"""One pass over the weights of a model for several of its adapters, each with keys and values of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import torch

from ..kv_cache.pool import SlotPool
from .forward_batch import ForwardBatch
from .pass_work import PassWork
from .token_keys import TokenKeys


@dataclass(frozen=True, slots=True, eq=False)
class BatchPart:
    """The tokens of one adapter among those of a pass."""

    tokens: slice
    plan: ForwardBatch
    """The pass over these tokens alone."""
    pool: SlotPool


@dataclass(slots=True, eq=False)
class JointBatch(ForwardBatch):
    """Passes side by side; what a token attends to is in its part."""

    parts: Sequence[BatchPart] = ()


def parts_of(plan: ForwardBatch, pool: SlotPool) -> Sequence[BatchPart]:
    """The parts of a pass: itself, where it has one adapter."""
    return plan.parts if isinstance(plan, JointBatch) else [BatchPart(slice(0, plan.tokens.shape[1]), plan, pool)]


def join(plans: Sequence[ForwardBatch], pools: Sequence[SlotPool]) -> JointBatch:
    """The pass over the tokens of several, one plan after another; ``rows`` are those of all logits."""
    ends = list(accumulate(plan.tokens.shape[1] for plan in plans))
    starts = [0, *ends[:-1]]
    first_rows = [0, *accumulate(len(plan.wanted) for plan in plans)]
    keys = [plan.keys for plan in plans if plan.keys is not None]
    return JointBatch(
        torch.cat([plan.tokens for plan in plans], dim=1),
        torch.cat([plan.positions for plan in plans], dim=1),
        torch.cat([plan.slots for plan in plans]),
        torch.cat([plan.wanted + start for plan, start in zip(plans, starts, strict=True)]),
        [],
        [],
        None,
        None,
        [
            range(rows.start + first, rows.stop + first)
            for plan, first in zip(plans, first_rows, strict=False)
            for rows in plan.rows
        ],
        PassWork(*(sum(getattr(plan.work, count.name) for plan in plans) for count in fields(PassWork))),
        keys=TokenKeys.join(keys) if keys else None,
        parts=[
            BatchPart(slice(start, end), plan, pool)
            for start, end, plan, pool in zip(starts, ends, plans, pools, strict=True)
        ],
    )
