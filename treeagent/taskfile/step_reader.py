"""Reads completions as steps, as the section ``thought`` of a task file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..checker import Checker
from ..errors import ConfigError
from ..patterns import Deadline, Pattern, PatternLimitError
from ..proposed_step import ProposedStep
from ..text import split, strip_breaks
from ..thought import Thought
from . import templates
from .key_lines import KeyLines
from .schema import TaskFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StepReader:
    """The pattern, the templates and the checker of one task."""

    spec: TaskFile
    pattern: Pattern | None
    checker: Checker
    variables: Mapping[str, Any]
    """The variables of the task, and ``row`` where it names fields of its data."""
    keys: KeyLines

    def read(self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]) -> list[ProposedStep]:
        """The steps of a completion, in order; ``sample`` has one.

        The pattern and the templates of all pieces share one limit of time. What comes after it is unparsed.
        """
        pieces = [strip_breaks(piece) for piece in split(completion, self.spec.thought.separator)]
        pieces = [piece for piece in pieces if piece.strip()]
        deadline = Deadline()
        return [
            self._read(piece, input, parent, steps, deadline) for piece in (pieces[:1] if role == "sample" else pieces)
        ]

    def _read(self, text: str, input: str, parent: Thought, steps: Sequence[str], deadline: Deadline) -> ProposedStep:
        def dropped(fault: str, reason: str | None = None) -> ProposedStep:
            return ProposedStep(text, parent.state, parent.key, False, fault, reason)

        depth = parent.depth + 1
        groups: dict[str, str | None] = {}
        try:
            if self.pattern is not None:
                piece = text
                matched = self.pattern.fullmatch(piece, deadline)
                if matched is None and (piece := text.strip()) != text:
                    matched = self.pattern.fullmatch(piece, deadline)
                if matched is None:
                    return dropped("unparsed")
                groups, text = matched, matched.get("text") or piece
            fields: dict[str, Any] = {"input": input, "text": text, "parent": parent.state, "depth": depth}
            fields |= {"steps": [*steps, text], "state": parent.state, **self.variables, **groups}
            after = self.checker.transition(parent.state, text) if self.checker.simulates else None
            if self.checker.simulates and after is None:
                return dropped("illegal")
            with deadline:
                state = self.evaluated("state", templates.render, fields) if after is None else after
                fields["state"] = state
                allowed = self.evaluated("legal", templates.evaluate, fields)
                terminal = depth >= self.spec.depth or self.evaluated("terminal", templates.evaluate, fields)
            legal = allowed and self.checker.legal(parent.state, text, state)
            key = self.checker.key(state)
        except (PatternLimitError, ConfigError) as error:
            return dropped("unparsed", str(error))
        except (ValueError, TypeError, ArithmeticError, LookupError):  # the checker cannot read the text
            return dropped("unparsed")
        return ProposedStep(text, state, key, terminal, None if legal else "illegal")

    def evaluated(self, key: str, evaluate: Callable[[str, dict[str, Any]], T], fields: dict[str, Any]) -> T:
        """What a template or expression gives. Raises ConfigError with its place: it is a fault of the file."""
        try:
            return evaluate(getattr(self.spec.thought, key), fields)
        except templates.FAULTS as fault:
            raise ConfigError([self.keys.problem(("thought", key), templates.describe(fault))]) from fault
