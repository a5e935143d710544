"""Grades answers as ``answer.grade`` of a task file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..grading.choices import read_options
from ..grading.filters import filtered
from ..task import Scalar
from . import templates
from .grade_schema import GradeSpec
from .key_lines import KeyLines


@dataclass(frozen=True, slots=True)
class AnswerGrading:
    """The rule or the expression of one task."""

    spec: GradeSpec
    variables: Mapping[str, Scalar]
    keys: KeyLines

    def agrees(self, answer: str, gold: str, row: Mapping[str, Any]) -> bool:
        """Whether an answer agrees with the gold answer of its row.

        Raises ValueError for a gold answer or options that cannot be read, and ConfigError where the expression fails.
        """
        rule = self.spec.rule
        if rule is not None:
            return rule.agrees(answer, gold, self._options(row))
        wanted = filtered(gold, self.spec.steps)
        try:
            given = filtered(answer, self.spec.steps)
        except ValueError:  # a pattern that takes too long: nothing was read from the answer
            return False
        fields = {"answer": given, "gold": wanted, "row": row, **self.variables}
        try:
            return templates.evaluate(self.spec.by, fields)
        except templates.FAULTS as fault:
            raise ConfigError([self.keys.problem(("answer", "grade"), templates.describe(fault))]) from fault

    def key(self, answer: str, row: Mapping[str, Any]) -> str | None:
        """Equal for answers that count as one in a vote; None where an expression grades."""
        rule = self.spec.rule
        try:
            return None if rule is None else rule.key(answer, self._options(row))
        except (ValueError, ConfigError):  # options that cannot be read
            return answer.strip()

    def _options(self, row: Mapping[str, Any]) -> dict[str, str]:
        """The options of ``choice`` by label; none for other kinds. Raises ValueError and ConfigError."""
        if self.spec.by != "choice":
            return {}
        if self.spec.options is None:
            return read_options(row["options"]) if "options" in row else {}
        try:
            value = templates.value(self.spec.options, {"row": row, **self.variables})
        except templates.FAULTS as fault:
            raise ConfigError([self.keys.problem(("answer", "grade", "options"), templates.describe(fault))]) from fault
        return read_options(value)
