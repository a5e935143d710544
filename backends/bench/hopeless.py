"""A drafter that is never right, for measuring what speculation costs at its worst (imposed acceptance 0)."""

from __future__ import annotations

from collections.abc import Sequence

from ..seed.drafters.base import Drafter
from ..seed.drafters.tables.ngram import NgramDrafter
from ..seed.records import Draft, SequenceState


class HopelessDrafter(Drafter):
    """Claims what an n-gram table claims, and proposes other tokens."""

    name = "hopeless"

    def __init__(self) -> None:
        self._table = NgramDrafter()

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """The table's drafts with every token replaced by a lower one, which no text here goes on with."""
        drafts = self._table.propose(rows, floor, depth)
        for draft in drafts:
            draft.tokens = [max(0, token - 1 - node) for node, token in enumerate(draft.tokens)]
        return drafts

    def observe(self, row: SequenceState, start: int) -> None:
        """The table learns as ever."""
        self._table.observe(row, start)

    def forget(self, row: SequenceState) -> None:
        """The table forgets."""
        self._table.forget(row)
