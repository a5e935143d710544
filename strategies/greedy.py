"""Greedy search: expand the best child, never backtrack.

It is Tree of Thoughts with b = 1 (Yao et al. 2023, arXiv:2305.10601). Textbooks call it hill climbing. It is the
baseline for wider beams and for backtracking.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from treeagent import Explorer, Thought, ranked

from .base import TreeSearch, best_line


@dataclass(frozen=True)
class Greedy(TreeSearch):
    """Generate ``k`` completions, evaluate, follow the best thought; a dead end ends the search."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the one path, if it comes to an end."""
        path = [explorer.root]
        while path and not path[0].terminal:
            explorer.likely((), after=partial(best_line, path[0]))
            [children] = await explorer.grow(path, role=self.by, n=self.k)
            path = ranked(children)[:1]
        return await explorer.finish(path)
