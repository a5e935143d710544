"""Reasoning via planning (RAP, Hao et al. 2023, arXiv:2305.14992, section 3.3): MCTS over the states of a world model.

A thought's state is the world model's state after the step, its judgement is the reward of the step; the evaluator
``reward`` is the paper's mix of likelihood and self-evaluation. An iteration selects by UCT, expands, simulates by
following the child of highest reward to an end, and backs up: Q is the highest mean reward from a step to the end of a
path through it (max of averages, as in the authors' code). Until a step has been tried, its reward is its Q.

A search of its own and no mode of ``mcts``, with which it shares the formula of UCT alone: there values belong to
states, the evaluator replaces the simulation, and Q is a mean over visits. Departs from the paper in five ways: Q is
scaled to [0, 1] by the worst and best reward seen, so that ``w`` does not depend on the evaluator's scale; the
exploration term is sqrt(log(N + 1) / (n + 1)), where the paper has sqrt(log(N) / n); the search stops at the first
answer that the task verifies; paths that were followed to the end are not followed again; and a dead end counts as one
more step of the worst reward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Annotated

from annotated_types import Ge

from treeagent import Explorer, Thought

from .base import TreeSearch, best_line
from .path_scores import best_paths


@dataclass(eq=False, slots=True)
class Step:
    """A thought with the statistics of the step that led to it."""

    thought: Thought
    q: float | None
    """None while nothing is known about it."""
    children: list[Step] | None = None
    """None until expanded."""
    visits: int = 0
    closed: bool = False
    """Followed to the end, as is every path below."""


@dataclass(frozen=True)
class RAP(TreeSearch):
    """Follow paths to their ends, chosen by UCT and then by reward; stop early on a thought that the task verifies."""

    iterations: Annotated[int, Ge(1)] = 10
    """Paths followed to their ends at most."""
    w: Annotated[float, Ge(0)] = 1.0
    """Exploration weight of UCT."""
    candidates: Annotated[int, Ge(1)] = 5
    """Finished thoughts that are answered at most at the end, by the mean reward of their paths."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first verified answer, or that of the path of highest mean reward."""
        root = Step(explorer.root, None)
        rewards: list[float] = []
        for _ in range(self.iterations):
            if root.closed:
                break
            path = [root]
            while not path[-1].thought.terminal:
                step = path[-1]
                if step.children is None:
                    explorer.likely((), after=partial(best_line, step.thought))
                    [grown] = await explorer.grow([step.thought], role=self.by, n=self.k)
                    step.children = [Step(child, child.value) for child in grown]
                    rewards += [child.value for child in grown if child.value is not None]
                    for child in grown:
                        solved = child.terminal and await explorer.verify(child)
                        if solved and (answered := await explorer.finish([child])) and await explorer.verify(answered):
                            return answered
                if not step.children:
                    break
                path.append(self._select(step, rewards))
            self._back_up(path, min(rewards, default=0.0))
            explorer.visited((step.thought, step.visits, step.q) for step in path)
        finished = [thought for thought in explorer.tree if thought.terminal]
        return await explorer.finish(best_paths(finished, explorer.tree, "mean")[: self.candidates])

    def _select(self, step: Step, rewards: list[float]) -> Step:
        """The child that UCT leads to; of a step not visited before, and so in a simulation, that of highest reward."""
        low, high = min(rewards, default=0.0), max(rewards, default=1.0)
        above = math.log(step.visits + 1)

        def uct(child: Step) -> float:
            scaled = 0.5 if child.q is None or high == low else (child.q - low) / (high - low)
            return scaled + self.w * math.sqrt(above / (child.visits + 1))

        return max((child for child in step.children or () if not child.closed), key=uct)

    @staticmethod
    def _back_up(path: list[Step], worst: float) -> None:
        """Means of the known rewards from each step to the end; an unparsed judgement does not count as 0."""
        known = [] if path[-1].thought.terminal else [worst]
        for step in reversed(path):
            if step.thought.value is not None:
                known.append(step.thought.value)
            if known:
                mean = fmean(known)
                step.q = mean if step.q is None or not step.visits else max(step.q, mean)
            step.visits += 1
            step.closed = step.thought.terminal or all(child.closed for child in step.children or ())
