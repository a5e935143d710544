"""Drafter with a head: the drafts of a draft model, from the target's states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...records import Draft, SequenceState
from ..base import EMPTY_LOAD, RoundLoad
from ..model.drafter import DraftPolicies, ModelDrafter
from ..model.tree_shapes import Shape
from .head_cache import HeadCache
from .head_runner import HeadRunner


class HeadDrafter(ModelDrafter):
    """Drafts of a given shape by a head. It does not draft for beams, nor before the target has read a prompt."""

    def __init__(
        self,
        runner: HeadRunner,
        reader: HeadCache,
        vocabulary: int,
        shape: Shape,
        policies: DraftPolicies | None = None,
    ) -> None:
        """``reader`` reads sequences with the runner."""
        self._reader = reader
        super().__init__(runner, vocabulary, shape, None, policies, reader)

    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """See :class:`ModelDrafter`."""
        drafts = [Draft() for _ in rows]
        able = [i for i, row in enumerate(rows) if self._reader.can_read(row)]
        others = len(rows) - len(able)
        load = replace(load, rows=load.rows + others, tokens=load.tokens + others)
        try:
            proposals = super().propose([rows[i] for i in able], floor, depth, load) if able else []
        finally:
            self._reader.free_drafts()
        for i, draft in zip(able, proposals, strict=True):
            drafts[i] = draft
        return drafts
