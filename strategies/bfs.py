"""Breadth-first search with a beam (Yao et al. 2023, arXiv:2305.10601, algorithm 1: ToT-BFS).

Departs from the paper in four ways: a finished thought stays in the beam and is ranked with longer ones; the search
ends at the first level whose beam has a finished thought that the task verifies; all thoughts of a level are grown
together, each child judged as soon as it exists; and a step to a state that is in the tree already is merged, so that
a beam never holds a state twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import TreeSearch


@dataclass(frozen=True)
class BFS(TreeSearch):
    """Generate ``k`` completions a thought, evaluate, keep the best ``b`` thoughts of a level."""

    b: Annotated[int, Ge(1)] = 5

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best beam after the last level."""
        beam = [explorer.root]
        while any(not thought.terminal for thought in beam):
            open_thoughts = [thought for thought in beam if not thought.terminal]
            finished = [thought for thought in beam if thought.terminal]
            next_beam = partial(self._next_beam, finished, open_thoughts[0].depth + 1)
            explorer.likely((), after=next_beam)
            grown = await explorer.grow(open_thoughts, role=self.by, n=self.k)
            beam = next_beam([child for children in grown for child in children])
            if [thought for thought in beam if thought.terminal and await explorer.verify(thought)]:
                break
        return await explorer.finish(beam)

    def _next_beam(self, finished: list[Thought], depth: int, below: list[Thought]) -> list[Thought]:
        return ranked([*finished, *(thought for thought in below if thought.depth == depth)])[: self.b]
