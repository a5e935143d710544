"""Best-first search (Pearl 1984, Heuristics; for language models: Koh et al. 2024, arXiv:2407.01476, section 3.3).

The judgement is the heuristic: the open thought of highest value is expanded next, wherever in the tree it is. Of
equal values the newest is first: evaluators have few labels, and on a plateau the oldest first would be breadth first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import TreeSearch


@dataclass(frozen=True)
class BestFirst(TreeSearch):
    """Expand the best open thought of the whole tree, until the best one is finished and accepted.

    Stops at the first finished thought that the task verifies, or, where it cannot verify, at the first one that has an
    answer. When the expansions are used up, the best ``candidates`` of the remaining finished thoughts are answered.
    """

    expansions: Annotated[int, Ge(1)] = 32
    """Thoughts expanded at most; the search budget c of Koh et al."""
    parallel: Annotated[int, Ge(1)] = 1
    """Thoughts expanded together. 1 is the textbook search; more may expand thoughts that it would not."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most when the expansions are used up."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first accepted thought; when none is, the first that had an answer at all."""
        frontier, left, fallback = [explorer.root], self.expansions, None
        while frontier:
            if frontier[0].terminal:
                answered = await explorer.finish([frontier.pop(0)])
                if answered is not None and (await explorer.verify(answered) or not explorer.task.can_verify):
                    return answered
                fallback = fallback or answered
                continue
            batch = [thought for thought in frontier[: self.parallel] if not thought.terminal][:left]
            left -= len(batch)
            frontier = [thought for thought in frontier if thought not in batch]
            explorer.likely((), after=partial(self._order, batch, frontier) if left else None)
            grown = await explorer.grow(batch, role=self.by, n=self.k)
            frontier = ranked([*(child for children in grown for child in children), *frontier])
            if not left:
                frontier = [thought for thought in frontier if thought.terminal][: self.candidates]
        return fallback

    @staticmethod
    def _order(grown: list[Thought], frontier: list[Thought], below: list[Thought]) -> Iterator[Thought]:
        """The thoughts that the search comes to by what is known, up to the first that may end it."""
        while grown:
            ids = {thought.id for thought in grown}
            frontier = ranked([*(thought for thought in below if thought.parent in ids), *frontier])
            grown, frontier = frontier[:1], frontier[1:]
            yield from grown
            if any(thought.terminal and thought.value is not None for thought in grown):
                return
