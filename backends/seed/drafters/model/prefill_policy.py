"""Decides whether prefilling new prompts in the draft model will be amortised by the remaining output tokens.

Savings that were forgone add up: texts with a common beginning come one after another in a search, and one prefill
would serve them all. So prompts are read once the forgone savings equal the cost of reading them. That is the rule of
ski rental (Karlin et al. 1988) with estimates: its bound, twice the best time in hindsight, holds as far as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...records import SequenceState
from ..base import RoundLoad

FADE = 0.1
"""Weight of the latest text in the mean length."""


class PrefillPolicy:
    """Decides for one draft model, from measured times and recent acceptance."""

    def __init__(self, cost: Callable[[int], float], saving: Callable[[int, RoundLoad], float]) -> None:
        """``cost``: seconds to read so many tokens; ``saving``: seconds per round of so many rows beside others."""
        self._cost, self._saving = cost, saving
        self._forgone = 0.0
        """Seconds that reading would have saved, summed over the remaining texts of all declined sequences."""
        self._declined: set[SequenceState] = set()
        self._length: float | None = None
        """Mean number of tokens of recent texts; None before the first has ended."""

    def is_decided(self, fresh: Sequence[SequenceState]) -> bool:
        """Whether all of them were declined already: nothing changes until another sequence comes."""
        return self._declined.issuperset(fresh)

    def should_read(self, fresh: Sequence[SequenceState], unread: int, rows: int, load: RoundLoad) -> bool:
        """Whether to read ``unread`` tokens for ``fresh`` sequences, which are some of ``rows``."""
        share = self._saving(rows, load) / rows
        self._forgone += share * sum(self._remaining(row) for row in fresh if row not in self._declined)
        if self._forgone >= self._cost(unread):
            self._forgone = 0.0
            self._declined.difference_update(fresh)
            return True
        self._declined.update(fresh)
        return False

    def forget(self, row: SequenceState) -> None:
        """The sequence has ended."""
        self._declined.discard(row)
        if row.position > 0:
            length = row.position if self._length is None else self._length
            self._length = length + FADE * (row.position - length)

    def _remaining(self, row: SequenceState) -> float:
        """Expected number of tokens that it will still get, by the length of recent texts."""
        if self._length is None:
            return float(row.room)
        return min(float(row.room), max(1.0, self._length - row.position))
