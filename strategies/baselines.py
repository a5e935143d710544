"""Baselines without a tree, to compare at equal tokens: direct answers and chains of thought.

Chain of thought: Wei et al. 2022, arXiv:2201.11903. Self-consistency: Wang et al. 2022, arXiv:2203.11171, equation 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from treeagent import Explorer, Search, Task, Thought


@dataclass(frozen=True)
class IO(Search):
    """One direct answer."""

    evaluates: ClassVar[bool] = False

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``io``."""
        task.require("io", "the search 'io'")

    async def run(self, explorer: Explorer) -> Thought | None:
        """The one attempt."""
        return await explorer.finish(await explorer.attempt("io", 1))


@dataclass(frozen=True)
class CoT(Search):
    """One chain of thought."""

    evaluates: ClassVar[bool] = False

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``cot``."""
        task.require("cot", "the search 'cot'")

    async def run(self, explorer: Explorer) -> Thought | None:
        """The one attempt."""
        return await explorer.finish(await explorer.attempt("cot", 1))


@dataclass(frozen=True)
class CoTSC(Search):
    """Self-consistency: ``k`` chains of thought, the most frequent answer wins, the earliest of equals."""

    evaluates: ClassVar[bool] = False

    k: Annotated[int, Ge(1)] = 20
    by: Literal["cot", "io"] = "cot"
    """Prompt of the attempts: ``cot``, or ``io`` for a vote over direct answers."""
    candidates: Annotated[int, Ge(1)] = 1
    """Number of the most frequent answers that are verified; b makes it comparable with a beam of width b."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt of the attempts."""
        task.require(self.by, "the search 'cot-sc'")

    async def run(self, explorer: Explorer) -> Thought | None:
        """The first attempt with the winning answer."""
        return await self.elect(explorer, await explorer.attempt(self.by, self.k))

    async def elect(self, explorer: Explorer, attempts: list[Thought]) -> Thought | None:
        """The first attempt with the most frequent answer; attempts without an answer do not vote."""
        answered = [(explorer.task.answer_key(each.answer), each) for each in attempts if each.answer is not None]
        votes = Counter(key for key, _ in answered)
        first = dict(reversed(answered))
        return await explorer.finish([first[answer] for answer, _ in votes.most_common(self.candidates)])
