"""Numbers as people and models write them, read exactly."""

from __future__ import annotations

import re
from fractions import Fraction

CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"
_LONGEST = 200
"""Characters of a number: no honest one is longer."""
_SIGNS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\ufe63": "-", "\uff0d": "-", "\u2009": " ", "\u202f": " ", "\xa0": " "}
)
"""Minus signs and the en dash as a keyboard has them, and narrow blanks."""
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:'[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]+)"
UNSIGNED = rf"(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}})?"
"""A decimal number: thousands in groups of three after commas, apostrophes or blanks, a decimal point, an exponent."""
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*[{CURRENCY}]?\s*(?P<late>[-+]?)\s*"
    rf"(?:(?P<mixed>[0-9]+)\s+)??(?P<top>{UNSIGNED})(?:\s*/\s*(?P<below>{UNSIGNED}))?"
    rf"\s*[{CURRENCY}]?\s*(?P<percent>%?)"
)


def number(text: str) -> Fraction | None:
    """The value of a text that is one number and nothing else; None for any other text.

    A sign, thousands separators (``1,234``, ``1'234``, ``1 234``), a decimal point, an exponent, a fraction (``3/4``,
    ``1 3/4``), a currency sign and a final full stop are read. ``50%`` is one half.
    """
    text = text.translate(_SIGNS).strip()
    if len(text) > _LONGEST:
        return None
    match = _NUMBER.fullmatch(text) or _NUMBER.fullmatch(text.rstrip(".").rstrip())
    if match is None or (match["mixed"] and not match["below"]) or (match["sign"] and match["late"]):
        return None
    below = Fraction(1) if match["below"] is None else _value(match["below"])
    if below == 0:
        return None
    size = _value(match["top"]) / below + (int(match["mixed"]) if match["mixed"] else 0)
    size = size / 100 if match["percent"] else size
    return -size if "-" in (match["sign"], match["late"]) else size


def _value(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,' ]", "", digits).rstrip(".") or "0")


def close(value: Fraction, wanted: Fraction, absolute: float, relative: float) -> bool:
    """Whether a number lies within the larger of the two tolerances; ``relative`` is a part of the wanted one."""
    if value == wanted:
        return True
    return abs(value - wanted) <= max(Fraction(repr(absolute)), Fraction(repr(relative)) * abs(wanted))
