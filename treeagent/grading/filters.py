"""Filters: what is taken from an answer, and from the gold answer, before the two are compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..patterns import Pattern, PatternLimitError
from .numerals import CURRENCY, UNSIGNED
from .plain_text import unwrapped

Stripped = Literal["units", "currency", "percent", "thousands"]
STRIPPED: tuple[str, ...] = get_args(Stripped)
"""What ``strip`` can take away."""

_UNITS = re.compile(
    rf"(?P<number>[-+\u2212]?\s*[{CURRENCY}]?\s*[-+\u2212]?{UNSIGNED}(?:\s*/\s*{UNSIGNED})?)\s*(?:[^\W\d_]|[\u00b0\u00b5]).*",
    re.DOTALL,
)
_CURRENCY = re.compile(rf"(?:US)?[{CURRENCY}]|\b(?:USD|EUR|GBP|CHF|JPY|INR)\b|\b(?:dollars?|euros?)\b", re.IGNORECASE)
_PERCENT = re.compile(r"\\?%|\bper ?cent\b", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[0-9])[,'\u2009\u202f](?=[0-9]{3}(?![0-9]))")


@dataclass(frozen=True, slots=True)
class Filter:
    """One step; exactly one of the three is given."""

    first: str | None = None
    """Pattern: the first match, its group ``answer`` where it has one; a text without a match stays as it is."""
    last: str | None = None
    """Pattern: the last match, likewise."""
    strip: tuple[str, ...] = ()
    """Members of :data:`STRIPPED`."""

    def apply(self, text: str) -> str:
        """The text after this step. Raises ValueError where a pattern takes too long."""
        for name in self.strip:
            text = _STRIP[name](text).strip()
        source = self.first or self.last
        if source is None:
            return text
        try:
            pattern = Pattern(source)
            match = pattern.first(text, "answer") if self.first else pattern.last(text, "answer")
        except PatternLimitError as error:
            raise ValueError(str(error)) from error
        return text if match is None else match


def filtered(text: str, filters: Sequence[Filter]) -> str:
    """The text after all steps. Raises ValueError."""
    for step in filters:
        text = step.apply(text)
    return text


def _without_units(text: str) -> str:
    """``18 apples`` is ``18``, ``5 km/h`` is ``5``; a text that does not begin with a number stays as it is."""
    match = _UNITS.fullmatch(unwrapped(text))
    return match["number"] if match else text


_STRIP: dict[str, Callable[[str], str]] = {
    "units": _without_units,
    "currency": lambda text: _CURRENCY.sub("", text),
    "percent": lambda text: _PERCENT.sub("", text),
    "thousands": lambda text: _THOUSANDS.sub("", text),
}
