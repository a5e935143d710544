"""Drafter that goes on from what its target has computed of each sequence, in the target's cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from ...executor.model_runner import ModelRunner
from ...kv_cache.page_table import PageTable
from ...records import Draft, SequenceState
from ..base import EMPTY_LOAD, RoundLoad
from .beam_tree import BeamShape
from .draft_cache import DraftReader
from .drafter import DraftPolicies, ModelDrafter
from .tree_shapes import Shape


class PrefixReader(DraftReader):
    """Reads sequences where the target has computed them."""

    def can_read(self, row: SequenceState) -> bool:
        """Whether the target has computed all tokens but the last, and there is one before it."""
        pages = row.pages
        return pages is not None and 0 < pages.length == len(row.tokens) - 1 and not pages.missing()

    @abstractmethod
    def free_drafts(self) -> None:
        """Free what drafts took; they are complete."""


class PrefixDrafter(ModelDrafter):
    """Drafts of a given shape. It does not draft before the target has read a prompt."""

    def __init__(
        self,
        runner: ModelRunner,
        reader: PrefixReader,
        vocabulary: int,
        shape: Shape,
        beams: BeamShape | None = None,
        policies: DraftPolicies | None = None,
    ) -> None:
        """``reader`` reads sequences with the runner."""
        self._reader = reader
        super().__init__(runner, vocabulary, shape, beams, policies, reader)

    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """See :class:`ModelDrafter`."""
        drafts = [Draft() for _ in rows]
        unread = [row for row in rows if not self._reader.can_read(row)]
        groups = {row.group for row in unread} - {None}  # drafted for whole or not at all
        skipped = {*unread, *(row for row in rows if row.group in groups)}
        able = [i for i, row in enumerate(rows) if row not in skipped]
        others = sum(row.group is None for row in unread)
        load = replace(load, rows=load.rows + others, tokens=load.tokens + others)
        try:
            proposals = super().propose([rows[i] for i in able], floor, depth, load) if able else []
        finally:
            self._reader.free_drafts()
        for i, draft in zip(able, proposals, strict=True):
            drafts[i] = draft
        return drafts


def pages_of(row: SequenceState) -> PageTable:
    """The page table of a row that can be read."""
    assert row.pages is not None  # noqa: S101  # it has one
    return row.pages
