"""Lists of items as people and models write them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ..patterns import Pattern, PatternLimitError
from .numerals import number
from .plain_text import plain

_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_STRONG = re.compile(r"\n|;|,\s*and\s+|\s+(?:->|=>|>|<|\u2192)\s+")
_COMMA = re.compile(r",")
_COMMA_BLANK = re.compile(r",(?![0-9]{3}(?![0-9]))|,\s")
"""A comma between a digit and three digits belongs to a number where other commas have a blank after them."""
_LAST = re.compile(r"\s+(?:and|&)\s+")
_MARK = re.compile(r"\s*(?:[-*\u2022]\s+|\(?\d{1,3}[.)]\s+)(?P<item>\S.*)", re.DOTALL)
"""A bullet or a number before an item that has a line of its own."""
_LONGEST = 100_000


def items(text: str, separator: str | None = None) -> list[str]:
    """The items of a list, without brackets, quotes, bullets and blanks around them.

    ``separator`` is a pattern. Without one a list in JSON is read as such; other items end at line breaks, semicolons,
    arrows and commas (``and`` or ``&`` before the last), or at blanks where there is none of these. Raises ValueError
    where the pattern takes too long.
    """
    text = text[:_LONGEST].strip().rstrip(".").strip()
    if separator is not None:
        return _clean(_split(text, separator))
    if (values := _json(text)) is not None:
        return [str(value) for value in values]
    if len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    comma = _COMMA_BLANK if re.search(r",\s", text) else _COMMA
    parts = [part for piece in _STRONG.split(text) for part in comma.split(piece)]
    if len(parts) > 1 and "\n" not in text:
        parts = [*parts[:-1], *_LAST.split(parts[-1])]
    elif len(parts) == 1:
        parts = _LAST.split(text) if _LAST.search(text) else text.split()
    return _clean(parts)


def item_key(item: str) -> str:
    """Equal for items that are one: equal numbers, or texts that differ in case, quotes and final punctuation only."""
    value = number(item)
    return plain(item) if value is None else str(value)


def _split(text: str, separator: str) -> list[str]:
    """The pieces between the matches of a pattern. Raises ValueError."""
    try:
        return Pattern(separator).split(text)
    except PatternLimitError as error:
        raise ValueError(str(error)) from error


def _clean(parts: Sequence[str]) -> list[str]:
    marks = [_MARK.fullmatch(part) for part in parts if part.strip()]
    numbered = len(marks) > 1 and all(marks)
    kept = [match["item"] for match in marks if match] if numbered else parts
    return [part.strip() for part in kept if part.strip()]


def _json(text: str) -> list[Any] | None:
    try:
        value = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value) else None
