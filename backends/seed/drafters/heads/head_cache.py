"""What heads of all kinds know of live sequences: which tokens they have read, in the slots of the target's cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...records import SequenceState
from ..model.prefix_drafter import PrefixReader, pages_of
from .head_runner import HeadRunner


class HeadCache(PrefixReader):
    """Reads sequences with one head."""

    first: int
    """The first token of a text that is read."""

    def __init__(self, runner: HeadRunner) -> None:
        self._runner = runner
        self._known: set[SequenceState] = set()

    def __contains__(self, row: SequenceState) -> bool:
        return row in self._known

    def unread(self, rows: Sequence[SequenceState]) -> int:
        """See :class:`DraftReader`."""
        slots = np.unique(np.concatenate([pages_of(row).table[self.first :] for row in rows]))
        return len(self._runner.unread(slots))

    def note(self, rows: Iterable[SequenceState]) -> None:
        """Record that sequences were read."""
        self._known.update(rows)

    def forget(self, row: SequenceState) -> None:
        """See :class:`DraftReader`."""
        self._known.discard(row)

    def rows(self) -> list[SequenceState]:
        """See :class:`DraftReader`."""
        return list(self._known)
