"""Beam search over reasoning steps (Xie et al. 2023, arXiv:2305.00633; Snell et al. 2024, arXiv:2408.03314).

``bfs`` ranks paths by their last state alone; this search ranks them by the scores of all their steps, so that a
doubtful step still counts after a good one. Departs from Xie et al. in three ways: beams are kept by rank and not
sampled; a step's score is the evaluator's (their mix of likelihood and confidence is the evaluator ``reward``); and
the scores are averaged, where the paper multiplies them, because a product favours short paths or long ones,
depending on the scale of the scores. ``prod`` suits evaluators whose scores are probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge

from treeagent import ConfigError, Explorer, Task, Thought, Tree

from .base import TreeSearch
from .path_scores import PathScore, best_paths


@dataclass(frozen=True)
class Beam(TreeSearch):
    """Generate ``k`` completions a thought, evaluate the steps, keep the ``b`` paths whose steps score best."""

    b: Annotated[int, Ge(1)] = 5
    """Paths kept per level, finished ones included."""
    score: PathScore = "mean"
    """A path's score from those of its steps: ``mean``, ``prod``, ``min`` (its weakest step) or ``last`` (as bfs)."""

    def check(self, task: Task) -> None:
        """Raise ConfigError without a prompt to expand with, or for products of labels below 0."""
        super().check(task)
        if self.score == "prod" and min(task.labels.values(), default=0.0) < 0:
            raise ConfigError(
                f"the search 'beam' cannot multiply scores below 0: evaluate.labels of task {task.name!r}"
            )

    async def run(self, explorer: Explorer) -> Thought | None:
        """The answer of the best path after the last level."""
        beam = [explorer.root]
        while open_thoughts := [thought for thought in beam if not thought.terminal]:
            finished = [thought for thought in beam if thought.terminal]
            next_beam = partial(self._next_beam, explorer.tree, finished, open_thoughts[0].depth + 1)
            explorer.likely((), after=next_beam)
            grown = await explorer.grow(open_thoughts, role=self.by, n=self.k)
            beam = next_beam([child for children in grown for child in children])
        return await explorer.finish(beam)

    def _next_beam(self, tree: Tree, finished: list[Thought], depth: int, below: list[Thought]) -> list[Thought]:
        steps = [thought for thought in below if thought.depth == depth]
        return best_paths([*finished, *steps], tree, self.score)[: self.b]
