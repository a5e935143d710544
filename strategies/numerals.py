"""Numbers as judges write them: signs, decimals, powers of ten, percent, fractions and ``8 out of 10``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORDS = {"zero": 0, **{word: number for number, word in enumerate(_SMALL, 1)}}
"""Number words that a reply may be."""
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
ORDINALS = {word: number for number, word in enumerate(_PLACES, 1)}

_NUMBER = r"[-+]?(?:[0-9]{1,40}(?:[.,][0-9]{1,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,2})?"
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_EITHER = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")
"""A thousand and more where points group digits, less than a thousand elsewhere."""
_FORM = re.compile(rf"(?P<number>{_NUMBER})(?:(?P<percent>%)|/(?P<whole>[0-9]{{1,40}})(?:[.,]0{{1,9}})?)?")
_OUT_OF = re.compile(
    r"([0-9]) ?(?:(?:points?|stars?|marks?) )?(?:/|\(?(?:out )?of(?: an? (?:possible|maximum of|total of|max of))?"
    r"|(?:von|sur|de|su)(?= 10)) ?([0-9])",
    re.IGNORECASE,
)
_WORD_OR_NUMBER = rf"{'|'.join(WORDS)}|[0-9]{{1,3}}"
_WORDS_OUT_OF = re.compile(
    rf"(?<![\w.,-])({_WORD_OR_NUMBER})(?: \(?out of |/)({_WORD_OR_NUMBER})(?![\w/])", re.IGNORECASE
)
_MINUS = re.compile(r"\b(?:minus|negative) (?=[0-9])", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]) ?(?:%|percent\b|per cent\b)", re.IGNORECASE)


def joined(text: str) -> str:
    """The text with every number in one piece: ``8 out of 10`` as ``8/10``, ``80 percent`` as ``80%``.

    Expects single blanks.
    """
    text = _MINUS.sub("-", text)
    text = _WORDS_OUT_OF.sub(
        lambda found: "/".join(str(WORDS.get(word.lower(), word)) for word in found.groups()), text
    )
    return _PERCENT.sub(r"\1%", _OUT_OF.sub(r"\1/\2", text))


def value(number: str) -> Fraction | None:
    """The exact value of a plain number; None for any other text."""
    if _THOUSANDS.fullmatch(number):
        number = number.replace(",", "")
    return Fraction(number.replace(",", ".")) if re.fullmatch(_NUMBER, number) else None


class Scale:
    """The numeric labels of a task, by value."""

    def __init__(self, labels: Mapping[Fraction, str]) -> None:
        self._labels = dict(labels)
        self._top = max(self._labels, default=Fraction(0))

    def __bool__(self) -> bool:
        return bool(self._labels)

    def label(self, word: str) -> str | None:
        """The label that a written number names for certain; None for a number that is no label.

        A fraction is read where its denominator is the highest label (``2/10`` on a scale up to 10), and on a scale up
        to 1. A percentage is read on scales up to 100 and up to 1. ``10.000`` is ten thousand where points group
        digits, and is not read where that is a label as well as ten.
        """
        number = value(word)
        if number is not None and _EITHER.fullmatch(word) and number * 1000 in self._labels:
            return None if number in self._labels else self._labels[number * 1000]
        if number is not None:
            return self._labels.get(number)
        form = _FORM.fullmatch(word)
        part = value(form["number"]) if form else None
        if form is None or part is None:
            return None
        if form["percent"]:
            return self._labels.get(part) if self._top == 100 else self._of_one(part / 100)
        whole = int(form["whole"])
        if part > whole:
            return None
        return self._labels.get(part) if whole == self._top else self._of_one(part / whole if whole else None)

    def _of_one(self, share: Fraction | None) -> str | None:
        return None if share is None or self._top > 1 else self._labels.get(share)
