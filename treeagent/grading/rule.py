"""The rule by which a task grades answers: a kind, and what it may leave out of account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .choices import chosen
from .filters import Filter, filtered
from .item_lists import item_key, items
from .math_answers import COMPARER, text_key
from .numerals import close, number
from .plain_text import plain

Kind = Literal["exact", "ignore_case", "number", "choice", "list", "math"]
KINDS: tuple[str, ...] = get_args(Kind)
"""What an answer may be: the same text (``exact``), the same but for case and final punctuation, a number, one of the
row's options, a list of items, a mathematical expression."""


@dataclass(frozen=True, slots=True)
class GradeRule:
    """How two answers are compared; both are filtered alike."""

    kind: str
    """One of :data:`KINDS`."""
    filters: tuple[Filter, ...] = ()
    tolerance: float = 0.0
    """Of ``number``: the largest difference."""
    relative: float = 0.0
    """Of ``number``: the largest difference as a part of the gold answer; the larger tolerance of the two counts."""
    ordered: bool = True
    """Of ``list``: whether the order of the items counts. How often each stands there counts in any case."""
    separator: str | None = None
    """Of ``list``: a pattern between two items."""

    def agrees(self, answer: str, gold: str, options: Mapping[str, str]) -> bool:
        """Whether the two are one answer; ``options`` are those of ``choice``. ValueError for an unreadable gold."""
        wanted = filtered(gold, self.filters)
        try:
            given = filtered(answer, self.filters)
        except ValueError:  # a pattern that takes too long: nothing was read from the answer
            given = ""
        if self.kind == "math":
            return bool(given.strip()) and COMPARER.equal(given, wanted)
        if self.kind == "number":
            value, right = number(given), number(wanted)
            if right is None:
                raise ValueError(f"the gold answer {gold[:60]!r} is no number")
            return value is not None and close(value, right, self.tolerance, self.relative)
        key = self._key(wanted, options)
        if key is None:
            raise ValueError(f"the gold answer {gold[:60]!r} is no {'option of its row' if options else 'letter'}")
        return self._key(given, options) == key

    def key(self, answer: str, options: Mapping[str, str]) -> str:
        """Equal for answers that count as one in a vote; one that cannot be read is its own."""
        try:
            given = filtered(answer, self.filters)
            key = self._key(given, options)
        except ValueError:
            key = None
        return answer.strip() if key is None else f"={key}"

    def _key(self, text: str, options: Mapping[str, str]) -> str | None:
        """The normal form of a filtered text; None where it cannot be read."""
        if self.kind == "ignore_case":
            return plain(text)
        if self.kind == "number":
            value = number(text)
            return None if value is None else str(value)
        if self.kind == "choice":
            return chosen(text, options)
        if self.kind == "math":
            return text_key(text)
        if self.kind == "list":
            keys = [item_key(item) for item in items(text, self.separator)]
            return repr(keys) if self.ordered else repr(sorted(Counter(keys).items()))
        return text.strip()
