"""Plug-ins with faults, for tests of what a user is told about them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from helpers import Oracle

from treeagent import Checker, Completion, Evaluator, Explorer, Judgement, Reply, Request, Search, Thought, Usage
from treeagent.strategies.evaluators import Value


class BrokenBackend(Oracle):
    """Raises the exception that its model names at every request whose prompt holds the option ``spoil``."""

    name = "faulty:BrokenBackend"

    async def generate(self, request: Request) -> Reply:
        """Fails."""
        if self.options.get("spoil", "") in request.prompt:
            raise getattr(builtins, self.model or "KeyError")("from the backend")
        return await super().generate(request)


class ClosedBackend(Oracle):
    """Its constructor takes no options."""

    name = "faulty:ClosedBackend"

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, str]) -> Oracle:
        """Fails for options."""
        return cls(model, **options)


class NamelessBackend(Oracle):
    """Has no name."""

    name: ClassVar[Any] = None


@dataclass(frozen=True)
class BrokenEvaluator(Value):
    """Divides by zero."""

    async def judge(self, thoughts: Sequence[Thought], context: Any) -> list[Judgement]:
        """Fails once something has been judged."""
        if any(thought.depth > 1 for thought in thoughts):
            raise ZeroDivisionError("from the evaluator")
        return await super().judge(thoughts, context)


@dataclass(frozen=True)
class Values(Evaluator):
    """Judges the thoughts by their place among their siblings."""

    values: ClassVar[tuple[float, ...]] = (0.1, float("nan"), 0.9, float("inf"), float("-inf"))

    async def judge(self, thoughts: Sequence[Thought], context: Any) -> list[Judgement]:
        """No request is made."""
        return [Judgement(self.values[thought.path[-1] % len(self.values)]) for thought in thoughts]


@dataclass(frozen=True)
class BrokenSearch(Search):
    """Grows one level, and fails."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """Fails."""
        await explorer.grow([explorer.root])
        raise IndexError("from the search")


class BrokenChecker(Checker):
    """Fails wherever it is asked whether something is right."""

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Fails."""
        raise KeyError("from the checker")

    def grade(self, answer: str, gold: str) -> bool:
        """Fails at one gold answer, and cannot read another."""
        if gold == "zero":
            return bool(1 / 0)
        if gold == "unreadable":
            raise ValueError("from the checker")
        return answer == gold


def cut(text: str, *, finish: str = "stop", reasoning: str | None = None) -> Reply:
    """A reply with one completion."""
    return Reply((Completion(text, finish=finish, reasoning=reasoning),), Usage(1, 1, 1))
