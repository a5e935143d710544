"""What heads of all kinds know of live sequences: which tokens they have read, in the slots of the target's cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from ...kv_cache.page_table import PageTable
from ...records import SequenceState
from ..model.draft_cache import DraftReader
from .head_runner import HeadRunner


class HeadCache(DraftReader):
    """Reads sequences with one head."""

    first: int
    """The first token of a text that is read."""

    def __init__(self, runner: HeadRunner) -> None:
        self._runner = runner
        self._known: set[SequenceState] = set()

    def __contains__(self, row: SequenceState) -> bool:
        return row in self._known

    def can_read(self, row: SequenceState) -> bool:
        """Whether the target has computed all tokens but the last, and there is one before it."""
        pages = row.pages
        return pages is not None and 0 < pages.length == len(row.tokens) - 1 and not pages.missing()

    def unread(self, rows: Sequence[SequenceState]) -> int:
        """See :class:`DraftReader`."""
        slots = np.unique(np.concatenate([pages_of(row).table[self.first :] for row in rows]))
        return len(self._runner.unread(slots))

    @abstractmethod
    def free_drafts(self) -> None:
        """Free what drafts took; they are complete."""

    def note(self, rows: Iterable[SequenceState]) -> None:
        """Record that sequences were read."""
        self._known.update(rows)

    def forget(self, row: SequenceState) -> None:
        """See :class:`DraftReader`."""
        self._known.discard(row)

    def rows(self) -> list[SequenceState]:
        """See :class:`DraftReader`."""
        return list(self._known)


def pages_of(row: SequenceState) -> PageTable:
    """The page table of a row that can be read."""
    assert row.pages is not None  # noqa: S101  # it has one
    return row.pages
