"""Adaptive consistency (Aggarwal et al. 2023, arXiv:2305.11860): a vote that stops when it is settled.

The stopping rule is the paper's Beta criterion: with v1 and v2 votes for the two most frequent answers, sampling stops
when the probability that the first is the more frequent one, P(p > 1/2) under Beta(v1 + 1, v2 + 1), exceeds a
threshold. Both numbers are whole, so it is a binomial sum and needs no integration. The paper's Dirichlet criterion
gives nearly the same stops at a higher price. Departs from the paper where ``parallel`` attempts are drawn at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import comb
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Lt

from treeagent import Explorer, Task, Thought

from .baselines import CoTSC


@dataclass(frozen=True)
class AdaptiveSC(CoTSC):
    """Self-consistency with at most ``k`` attempts, which stops as soon as the vote is settled."""

    evaluates: ClassVar[bool] = False

    k: Annotated[int, Ge(1)] = 40
    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    """Probability from which the most frequent answer is taken for the winner; the paper's threshold."""
    parallel: Annotated[int, Ge(1)] = 1
    """Attempts drawn between two looks at the vote."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt of the attempts."""
        task.require(self.by, "the search 'adaptive-sc'")

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first attempt with the winning answer."""
        attempts: list[Thought] = []
        for drawn in range(0, self.k, self.parallel):
            attempts += await explorer.attempt(self.by, min(self.parallel, self.k - drawn))
            answers = [explorer.task.answer_key(each.answer) for each in attempts if each.answer is not None]
            if answers and lead(answers) > self.confidence:
                break
        return await self.elect(explorer, attempts)


def lead(answers: list[str]) -> float:
    """The probability that the most frequent answer would stay ahead of the second: 0.75 after one vote."""
    first, second = ([votes for _, votes in Counter(answers).most_common(2)] + [0])[:2]
    return sum(comb(first + second + 1, wins) for wins in range(first + 1)) / (1 << (first + second + 1))
