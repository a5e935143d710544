"""Grade-school mathematics: a calculation written in a step is checked, a final number is compared exactly."""

from __future__ import annotations

import re
from fractions import Fraction

from treeagent.checker import Checker

from .expressions import value

_NUMBER = r"(?:[0-9]+(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_TERM = rf"[(\s]*(?:{_NUMBER})[)\s]*"
_LEFT = re.compile(rf"(?<![\w.)%=/*+-])-?{_TERM}(?:[-+*/]{_TERM})+\Z")
_RIGHT = re.compile(rf"=\s*(?P<right>(?:-\s*)?(?:{_NUMBER}))(?!\.?\w|[,%]\w|\s*[-+/*(%])")
_OPEN = tuple("-+*/(0123456789")
"""What ends a text that goes on in the calculation after it."""
_MIXED = re.compile(r"[0-9]\s+and\Z")
_FINAL = re.compile(rf"-?\s*(?:[$€£]\s*)?(?P<number>{_NUMBER})\s*(?:%|[a-zA-Z]*)\.?")
_LONGEST = 100
"""Characters of a number or a calculation: no honest one is longer."""
_WINDOW = 3 * _LONGEST
"""Characters before ``=`` in which a calculation is looked for."""
_SIGNS = str.maketrans("\u00d7\u00b7\u00f7\u2212\u2013", "**/--", "$€£")
"""Multiplication and division signs, minus sign and en dash, as a keyboard has them; currency signs are removed."""


class GSM8K(Checker):
    """Registered as ``gsm8k``."""

    brief = True

    def legal(self, parent: str, text: str, state: str) -> bool:
        """Every calculation that :func:`equations` finds in the step is right; its words are left to the evaluator."""
        return all(right for _, right in equations(text))

    def grade(self, answer: str, gold: str) -> bool:
        """Equal as numbers: ``1,080``, ``$1080`` and ``1080.00`` are equal. ValueError for a gold that is none."""
        wanted = number(gold)
        if wanted is None:
            raise ValueError(f"the gold answer {gold[:60]!r} is no number")
        return number(answer) == wanted


def number(text: str) -> Fraction | None:
    """A number with thousands separators, a currency sign or a unit; None for anything else."""
    text = text.strip()
    match = _FINAL.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    return Fraction(match["number"].replace(",", "")) * (-1 if text.startswith("-") else 1)


def equations(text: str) -> list[tuple[str, bool]]:
    """Each ``calculation = number`` of a text without units inside, and whether it is right to the digits written.

    What has a unit, a percentage or an unknown in it is not an equation here: nothing is known about it.
    """
    checked = []
    text = re.sub(r"(?<=[\s0-9])x(?=\s*[0-9(])", "*", text.translate(_SIGNS))
    end = 0  # of the equation before
    for equal in _RIGHT.finditer(text):
        first = max(end, text.rfind("=", end, equal.start()) + 1, equal.start() - _WINDOW)
        match = _LEFT.search(text, first, equal.start())
        if match is None:
            continue
        end = equal.end()
        before = text[max(0, match.start() - _WINDOW) : match.start()].rstrip()
        if before.endswith(_OPEN) or (_MIXED.search(before) and re.match(r"[0-9]+\s*/", match[0])):
            continue  # "30 students * 2/3 = 20", "1 1/2 = 1.5", "1 and 1/2 = 1.5"
        right = "".join(equal["right"].replace(",", "").split())
        left = value(match[0].replace(",", ""), r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
        if left is not None and len(right) <= _LONGEST:
            digits = len(right.partition(".")[2])
            whole = f"{match[0]}{equal[0]}".strip()
            checked.append((whole, abs(left[0] - Fraction(right)) <= Fraction(1, 2 * 10**digits)))
    return checked
