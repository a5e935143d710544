"""Diverse verifier tree search (Beeching, Tunstall & Rush 2024, "Scaling test-time compute with open models").

N samples are split into N/M independent subtrees (here: ``subtrees``), each of which follows the best of its own M
steps (here: ``k``). A beam of the same cost soon holds variants of one idea; independent subtrees stay diverse.
Departs from the source where states are merged: first steps are dealt out among the subtrees in turn, so that no two
begin at the same state. Below that a state counts as a duplicate within its own subtree only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import TreeSearch, best_line


@dataclass(frozen=True)
class DVTS(TreeSearch):
    """Grow ``subtrees`` trees apart from each other, each greedily with ``k`` completions; the best end wins."""

    subtrees: Annotated[int, Ge(1)] = 4
    """Independent subtrees, N/M in the source."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best of the subtrees' ends."""
        role = self.role(explorer.task)
        times = 1 if role == "propose" else self.subtrees  # a list has many steps, and asked for again may be the same
        explorer.likely((), after=self._first_steps)
        grown = await explorer.grow([explorer.root] * times, role=role, n=self.k)
        ends = self._first_steps([child for children in grown for child in children])
        while growing := [thought for thought in ends if not thought.terminal]:
            explorer.likely((), after=partial(_best_lines, growing))
            grown = await explorer.grow(growing, role=role, n=self.k, apart=True)
            best = {thought.id: ranked(children)[:1] for thought, children in zip(growing, grown, strict=True)}
            ends = [end for thought in ends for end in best.get(thought.id, [thought])]
        return await explorer.finish(ranked(ends))

    def _first_steps(self, thoughts: list[Thought]) -> list[Thought]:
        """The best of each subtree's first steps."""
        steps = [thought for thought in thoughts if thought.depth == 1]
        return [best for i in range(self.subtrees) for best in ranked(steps[i :: self.subtrees])[:1]]


def _best_lines(growing: list[Thought], below: list[Thought]) -> list[Thought]:
    return [step for thought in growing for step in best_line(thought, below)]
