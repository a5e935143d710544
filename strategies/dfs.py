"""Depth-first search with pruning and backtracking (Yao et al. 2023, arXiv:2305.10601, algorithm 2: ToT-DFS).

Departs from the paper in three ways: a child whose value equals the threshold is kept, where the paper demands more;
children beyond the ``width`` best are deferred to the very end and not dropped; and steps to a state that is in the
tree already are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought, ranked

from .base import TreeSearch


@dataclass(frozen=True)
class DFS(TreeSearch):
    """Follow the best child first; skip children judged below ``threshold``; go back when nothing is left.

    Stops at the first finished thought that the task verifies, or, where it cannot verify, at the first one that has an
    answer. A thought whose judgement could not be parsed is expanded last and never pruned: its value is unknown.
    """

    threshold: float = 0.5
    """Children judged below it are pruned; on the scale of the evaluator."""
    width: Annotated[int, Ge(1)] = 5
    """Children expanded per thought at first; the others are expanded after everything else."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first accepted thought; when none is, the first that had an answer at all."""
        fallback = None
        stack = [explorer.root]
        while stack:
            thought = stack.pop()
            if thought.terminal:
                answered = await explorer.finish([thought])
                if answered is not None and (await explorer.verify(answered) or not explorer.task.can_verify):
                    return answered
                fallback = fallback or answered
                continue
            explorer.likely((), after=partial(self._preorder, [*stack, thought]))
            [children] = await explorer.grow([thought], role=self.by, n=self.k)
            ordered = self._promising(children)
            stack.extend(reversed(ordered[: self.width]))
            stack[:0] = reversed(ordered[self.width :])  # merged states come up once: keep them for the very end
        return fallback

    def _promising(self, children: Sequence[Thought]) -> list[Thought]:
        return ranked(child for child in children if child.value is None or child.value >= self.threshold)

    def _preorder(self, stack: list[Thought], below: list[Thought]) -> Iterator[Thought]:
        """The thoughts that the search comes to by what is known, up to the first that may end it."""
        while stack:
            thought = stack[-1]
            yield thought
            if thought.terminal and thought.value is not None:
                return
            children = self._promising([other for other in below if other.parent == thought.id])
            stack = [*stack[:-1], *reversed(children[: self.width])]
