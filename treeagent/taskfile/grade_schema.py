"""The key ``answer.grade``: how an answer is compared with the gold answer."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..errors import did_you_mean
from ..grading.filters import STRIPPED, Filter
from ..grading.rule import KINDS, GradeRule
from .strict_model import Pattern, Strict, Text

_ONE_KIND = {"tolerance": "number", "relative": "number", "options": "choice", "ordered": "list", "separator": "list"}
"""Keys that one kind has."""


class FilterSpec(Strict):
    """One filter."""

    first: Pattern | None = None
    """The first match, its group ``answer`` where it has one; a text without a match stays as it is."""
    last: Pattern | None = None
    """The last match, likewise."""
    strip: list[str] | None = None
    """``units``, ``currency``, ``percent``, ``thousands``."""

    @field_validator("strip")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        for name in names or ():
            if name not in STRIPPED:
                raise ValueError(f"nothing called {name!r} can be stripped.{did_you_mean(name, STRIPPED)}")
        return names

    @model_validator(mode="after")
    def _one(self) -> FilterSpec:
        if sum(value is not None for value in (self.first, self.last, self.strip)) != 1:
            raise ValueError("a filter has exactly one of the keys first, last, strip")
        return self


class GradeSpec(Strict):
    """A kind of answer with its options, or an expression."""

    by: Text
    """One of ``exact``, ``ignore_case``, ``number``, ``choice``, ``list``, ``math``; or a Jinja expression over
    ``answer``, ``gold`` and ``row``."""
    filters: list[FilterSpec] = Field(default=[])
    """Applied in order to the answer and to the gold answer, before they are compared."""
    tolerance: float = Field(default=0.0, ge=0)
    """Of ``number``: the largest difference."""
    relative: float = Field(default=0.0, ge=0)
    """Of ``number``: the largest difference as a part of the gold answer; the larger of the two tolerances counts."""
    options: str | None = None
    """Of ``choice``: Jinja expression for the options; ``row.options`` where ``data.fields`` names ``options``. Without
    options an answer is a letter."""
    ordered: bool = True
    """Of ``list``: false compares without the order."""
    separator: Pattern | None = None
    """Of ``list``: what stands between two items."""

    @field_validator("by")
    @classmethod
    def _kind(cls, by: str) -> str:
        if by not in KINDS and re.fullmatch(r"\s*[\w-]+\s*", by):
            raise ValueError(
                f"there is no such kind of answer.{did_you_mean(by.strip(), KINDS)} Or write an expression"
            )
        return by

    @model_validator(mode="after")
    def _fits(self) -> GradeSpec:
        for key, kind in _ONE_KIND.items():
            if key in self.model_fields_set and self.by != kind:
                raise ValueError(f"{key} is a key of the kind {kind!r}, not of {self.by!r}")
        return self

    @property
    def rule(self) -> GradeRule | None:
        """The rule of a kind; None for an expression."""
        if self.by not in KINDS:
            return None
        return GradeRule(self.by, self.steps, self.tolerance, self.relative, self.ordered, self.separator)

    @property
    def steps(self) -> tuple[Filter, ...]:
        """The filters."""
        return tuple(Filter(step.first, step.last, tuple(step.strip or ())) for step in self.filters)


def _written(value: Any) -> Any:
    """A word or an expression alone stands for a mapping with the key ``by``."""
    return {"by": value} if isinstance(value, str) else value


Grade = Annotated[GradeSpec, BeforeValidator(_written)]
