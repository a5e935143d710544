"""Decide whether prefilling a new prompt in the draft model is amortised by the remaining output tokens.

Declined savings accumulate. A search asks for texts with a common prefix one after another, and one prefill would have
served them all; once the declined savings reach the cost of the prefill, it is made. This is the rule of ski rental
(Karlin et al. 1988): at most twice the optimal cost in hindsight, as far as the estimates are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...records import SequenceState
from ..base import RoundLoad

FADE = 0.1
"""Weight of the latest text in the moving average of the length."""


class PrefillPolicy:
    """The decisions for one draft model, from measured times and recent acceptance."""

    def __init__(self, takes: Callable[[int], float], saves: Callable[[int, RoundLoad], float]) -> None:
        """``takes``: seconds to prefill a number of tokens; ``saves``: seconds saved in a round, by rows and load."""
        self._takes, self._saves = takes, saves
        self._declined_seconds = 0.0
        """Seconds that declined prefills would have saved."""
        self._declined_rows: set[SequenceState] = set()
        self._length: float | None = None
        """Moving average of the output length in tokens; None before the first text ended."""

    def declined(self, fresh: Sequence[SequenceState]) -> bool:
        """Whether all of them were declined before; the decision is not repeated until another row is added."""
        return self._declined_rows.issuperset(fresh)

    def pays(self, fresh: Sequence[SequenceState], unread: int, rows: int, load: RoundLoad) -> bool:
        """Whether to prefill ``unread`` tokens for ``fresh``, which are among ``rows`` sequences next to ``load``."""
        share = self._saves(rows, load) / rows
        self._declined_seconds += share * sum(self._remaining(row) for row in fresh if row not in self._declined_rows)
        if self._declined_seconds >= self._takes(unread):
            self._declined_seconds = 0.0
            self._declined_rows.difference_update(fresh)
            return True
        self._declined_rows.update(fresh)
        return False

    def ended(self, row: SequenceState) -> None:
        """Record the end of a text."""
        self._declined_rows.discard(row)
        if row.position > 0:
            length = row.position if self._length is None else self._length
            self._length = length + FADE * (row.position - length)

    def _remaining(self, row: SequenceState) -> float:
        """Expected remaining tokens, from the mean length of earlier texts."""
        if self._length is None:
            return float(row.room)
        return min(float(row.room), max(1.0, self._length - row.position))
