"""Which tokens of live sequences a drafter has observed, so that it is shown each of them once."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..drafters.base import Drafter
from ..records import SequenceState

FEW = 17
"""Tokens that a pass commits at most; more have been left out in earlier rounds."""


class ObservedTokens:
    """What one drafter has observed of single sequences."""

    def __init__(self) -> None:
        self._counts: dict[SequenceState, int] = {}
        """Tokens of each sequence."""
        self.reading = 0.0
        """Seconds of the last call in which the drafter read sequences that it did not know, or not so far."""

    def show(self, drafter: Drafter, rows: Sequence[SequenceState]) -> None:
        """Show the drafter what was committed since the last time."""
        counts, fresh, reads = self._counts, [], False
        for row in rows:
            start, end = counts.get(row, 0), len(row.tokens)
            if start < end:
                fresh.append((row, start))
                counts[row] = end
                reads = reads or not start or end - start > FEW
        began = time.perf_counter() if reads else 0.0
        if fresh:
            drafter.observe_all(fresh)
        self.reading = time.perf_counter() - began if reads else 0.0

    def forget(self, row: SequenceState) -> None:
        """A sequence has ended."""
        self._counts.pop(row, None)
