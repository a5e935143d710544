"""REBASE: reward-balanced search (Wu et al. 2024, arXiv:2408.00724).

Each level has a budget of steps, shared among its open thoughts by the softmax of their rewards: good thoughts get many
children, poor ones few or none, and no rank prunes a thought. A finished thought lowers the budget of the levels below
it by one. Departs from the paper in four ways: shares are rounded by largest remainders, not each on its own, so that
they always sum to the budget; rewards are scaled to [0, 1] by the worst and best seen so far, so that the temperature
does not depend on the evaluator's scale; of a proposed list, the first steps up to the share are read; and the answer
is the best finished thought's (best-of-N), not that of a vote weighted by reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge, Gt

from treeagent import Explorer, Thought, ranked

from .allotment import allotment
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
            if role == "propose":  # else the number of samples, which is part of the request, depends on all shares
                explorer.likely((), after=partial(self._next_level, level[0].depth + 1, finished, values))
            grown = await explorer.grow(level, role=role, n=shares if role == "sample" else None, most=shares)
            children = [child for siblings in grown for child in siblings]
            allotted = self._shares(children, finished, values)
            values += [child.value for child in children if child.value is not None]
            finished += [child for child in children if child.terminal]
            level, shares = list(allotted), list(allotted.values())
        return await explorer.finish(ranked(finished)[: self.candidates])

    def _shares(
        self, children: Sequence[Thought], finished: Sequence[Thought], before: Sequence[float]
    ) -> dict[Thought, int]:
        """Each unfinished child that gets a share, with its share."""
        values = [*before, *(child.value for child in children if child.value is not None)]
        growing = [child for child in children if not child.terminal]
        spread = (max(values) - min(values) if values else 0.0) or 1.0
        budget = max(self.n - len(finished) - (len(children) - len(growing)), 0)
        allotted = allotment([child.value for child in growing], budget, self.temperature * spread)
        return {child: share for child, share in zip(growing, allotted, strict=True) if share}

    def _next_level(
        self, depth: int, finished: list[Thought], values: list[float], below: list[Thought]
    ) -> list[Thought]:
        shares = self._shares([thought for thought in below if thought.depth == depth], finished, values)
        return sorted(shares, key=lambda thought: -shares[thought])
