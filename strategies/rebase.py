"""REBASE: reward-balanced search (Wu et al. 2024, arXiv:2408.00724).

Each level has a budget of steps, shared among its open thoughts by the softmax of their rewards: good thoughts get many
children, poor ones few or none, and no rank prunes a thought. A finished thought lowers the budget of the levels below
it by one. Departs from the paper in four ways: shares are rounded by largest remainders, not each on its own, so that
they always sum to the budget; rewards are scaled to [0, 1] by the worst and best seen so far, so that the temperature
does not depend on the evaluator's scale; of a proposed list, the first steps up to the share are read; and the answer
is the best finished thought's (best-of-N), not that of a vote weighted by reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from treeagent import Explorer, Thought, ranked

from .base import ExpandingSearch


@dataclass(frozen=True)
class Rebase(ExpandingSearch):
    """Share ``n`` steps a level among the thoughts, by the softmax of their rewards."""

    n: Annotated[int, Ge(1)] = 16
    """Steps per level, N in the paper: so many samples, or so many of the steps that are proposed."""
    temperature: Annotated[float, Gt(0)] = 0.2
    """T_b of the paper, on rewards from 0 to 1: low favours the best, high shares equally."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most at the end of the search."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best finished thought."""
        role = self.role(explorer.task)
        level, shares = [explorer.root], [self.n]
        finished: list[Thought] = []
        values: list[float] = []
        while level:
            grown = await explorer.grow(level, role=role, n=shares if role == "sample" else None, most=shares)
            children = [child for siblings in grown for child in siblings]
            values += [child.value for child in children if child.value is not None]
            finished += [child for child in children if child.terminal]
            growing = [child for child in children if not child.terminal]
            spread = (max(values) - min(values) if values else 0.0) or 1.0
            rewards = [child.value for child in growing]
            allotted = allotment(rewards, max(self.n - len(finished), 0), self.temperature * spread)
            chosen = [(child, share) for child, share in zip(growing, allotted, strict=True) if share]
            level, shares = [child for child, _ in chosen], [share for _, share in chosen]
        return await explorer.finish(ranked(finished)[: self.candidates])


def allotment(rewards: Sequence[float | None], budget: int, temperature: float) -> list[int]:
    """Whole shares of a budget by the softmax of rewards; they sum to it, and no reward gets more than a higher one.

    A thought of unknown reward gets a share only where no reward is known at all, an equal one then.
    """
    known = [reward for reward in rewards if reward is not None]
    best = max(known, default=0.0)
    weights = [float(not known) if reward is None else math.exp((reward - best) / temperature) for reward in rewards]
    quotas = [budget * weight / sum(weights) for weight in weights]
    shares = [int(quota) for quota in quotas]
    rest = [(quota - share, reward or 0.0) for quota, share, reward in zip(quotas, shares, rewards, strict=True)]
    for place in sorted(range(len(rest)), key=lambda place: rest[place], reverse=True)[: budget - sum(shares)]:
        shares[place] += 1
    return shares
