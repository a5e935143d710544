"""Whether a draft model should read the prompts of new rows: that must pay in what is left of their texts.

What was left out adds up. Texts that share a beginning come one after another in a search, and reading it once would
have served them all; so when as much has been foregone as reading takes, it is read. That is the rule of ski rental
(Karlin et al. 1988), by estimates: its bound, twice the best time in hindsight, holds as far as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...records import SequenceState
from ..base import RoundLoad

FADE = 0.1
"""Weight of the latest text in the mean length."""


class PrefillPolicy:
    """Decides for one draft model, by measured times and late acceptance."""

    def __init__(self, takes: Callable[[int], float], saves: Callable[[int, RoundLoad], float]) -> None:
        """``takes``: seconds of reading so many tokens; ``saves``: seconds a round of so many rows beside others."""
        self._takes, self._saves = takes, saves
        self._foregone = 0.0
        """Seconds that reading would have saved, all of the texts of rows that were left out."""
        self._declined: set[SequenceState] = set()
        self._length: float | None = None
        """Mean number of tokens of late texts; None before the first has ended."""

    def settled(self, fresh: Sequence[SequenceState]) -> bool:
        """Whether all of them were left out already: nothing changes before another row comes."""
        return self._declined.issuperset(fresh)

    def pays(self, fresh: Sequence[SequenceState], unread: int, rows: int, others: RoundLoad) -> bool:
        """Whether to read ``unread`` tokens for ``fresh`` rows, which are some of ``rows``."""
        share = self._saves(rows, others) / rows
        self._foregone += share * sum(self._left(row) for row in fresh if row not in self._declined)
        if self._foregone >= self._takes(unread):
            self._foregone = 0.0
            self._declined.difference_update(fresh)
            return True
        self._declined.update(fresh)
        return False

    def ended(self, row: SequenceState) -> None:
        """A text has come to its end."""
        self._declined.discard(row)
        if row.position > 0:
            length = row.position if self._length is None else self._length
            self._length = length + FADE * (row.position - length)

    def _left(self, row: SequenceState) -> float:
        """Tokens that it may still get, by the length of others."""
        if self._length is None:
            return float(row.room)
        return min(float(row.room), max(1.0, self._length - row.position))
