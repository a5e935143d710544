"""What a draft model has read of each live sequence: passes over its radix cache.

Accepted nodes of a draft keep their keys and values. A sequence that was not drafted for in some rounds is read up to
its end in its next pass, so the cache never has a gap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch

from ...executor.model_runner import ModelRunner
from ...executor.prefill import PrefillChunk
from ...executor.segment import Segment
from ...kv_cache.page_table import PageTable
from ...kv_cache.pool import Slots
from ...records import Draft, SequenceState
from .tree_builder import TreeBuilder

UNLIMITED = 1 << 30


class DraftReader(ABC):
    """What reads sequences and the nodes of their drafts for a drafter. V vocabulary."""

    @abstractmethod
    def __contains__(self, row: SequenceState) -> bool:
        """Whether a sequence was read before."""

    @abstractmethod
    def unread(self, rows: Sequence[SequenceState]) -> int:
        """How many tokens of new sequences a pass would have to read. Raises OutOfMemory."""

    @abstractmethod
    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """Read what was committed since the last call, and start the builders' drafts.

        Returns the logits (R, V) after the last token of each of R sequences. Raises OutOfMemory.
        """

    @abstractmethod
    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """Read the n growing nodes of all drafts; logits (n, V) after each, in order. Raises OutOfMemory."""

    @abstractmethod
    def forget(self, row: SequenceState) -> None:
        """Release a sequence."""

    @abstractmethod
    def rows(self) -> list[SequenceState]:
        """All sequences that it holds."""


@dataclass(slots=True, eq=False)
class _CachedSequence:
    """What the draft model has read of one sequence."""

    pages: PageTable
    """Its committed tokens."""
    draft: Draft = field(default_factory=Draft)
    """Its latest draft, not verified yet as far as the draft model knows."""
    slots: dict[int, int] = field(default_factory=dict)
    """Of the nodes of the draft that the model has read: the slot of their keys and values."""

    def path(self, node: int) -> list[int]:
        """Slots of a node and its ancestors, from the top down."""
        slots: list[int] = []
        while node >= 0:
            slots.append(self.slots[node])
            node = self.draft.parents[node]
        return slots[::-1]


class DraftCache(DraftReader):
    """Reads sequences with one draft model. V vocabulary."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner
        self._sequences: dict[SequenceState, _CachedSequence] = {}

    def __contains__(self, row: SequenceState) -> bool:
        return row in self._sequences

    def unread(self, rows: Sequence[SequenceState]) -> int:
        """See :class:`DraftReader`."""
        tables: list[PageTable] = []
        try:
            for row in rows:
                tables.append(PageTable(self.runner.forest, row.tokens[:-1]))  # kept when one fails
            return PrefillChunk(tables, limit=UNLIMITED).tokens
        finally:
            for table in tables:
                table.release(keep=False)

    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`."""
        forest = self.runner.forest
        rows = [builder.row for builder in builders]
        for row in rows:
            cached = self._sequences.get(row)
            if cached is None:
                self._sequences[row] = _CachedSequence(PageTable(forest, row.tokens[:-1]))
            else:
                self._commit(cached, row)
        sequences = [self._sequences[row] for row in rows]
        chunk = PrefillChunk([cached.pages for cached in sequences], limit=UNLIMITED)
        missing = [row.tokens[cached.pages.length :] for row, cached in zip(rows, sequences, strict=True)]
        slots = np.split(forest.allocate(sum(map(len, missing))), np.cumsum([len(tokens) for tokens in missing])[:-1])
        segments = [
            Segment(tokens, own, cached.pages.table, cached.pages.node, wanted=[len(tokens) - 1])
            for tokens, own, cached in zip(missing, slots, sequences, strict=True)
        ]
        logits = self._forward([*chunk.spans, *segments], slots)
        chunk.done()
        for cached, tokens, own, builder in zip(sequences, missing, slots, builders, strict=True):
            cached.pages.extend(tokens, own)
            cached.draft = builder.draft
        return logits

    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`."""
        nodes = [(self._sequences[builder.row], node) for builder in builders for node in builder.growing]
        slots = self.runner.forest.allocate(len(nodes))
        segments = []
        for (cached, node), slot in zip(nodes, slots, strict=True):
            above = np.array(cached.path(cached.draft.parents[node]), dtype=np.int64)
            context = np.concatenate((cached.pages.table, above))
            token = cached.draft.tokens[node]
            segments.append(Segment([token], np.array([slot]), context, cached.pages.node, wanted=[0]))
        logits = self._forward(segments, [slots])
        for (cached, node), slot in zip(nodes, slots.tolist(), strict=True):
            cached.slots[node] = slot
        return logits

    def forget(self, row: SequenceState) -> None:
        """Release a sequence; its tokens stay in the radix cache until memory is needed."""
        cached = self._sequences.pop(row, None)
        if cached is not None:
            self._free(cached)
            cached.pages.release(keep=True)

    def rows(self) -> list[SequenceState]:
        """See :class:`DraftReader`."""
        return list(self._sequences)

    def _commit(self, cached: _CachedSequence, row: SequenceState) -> None:
        """Keep the accepted nodes that were read; free the others."""
        new, node = row.tokens[cached.pages.length :], -1
        accepted: list[int] = []
        for token in new[:-1]:  # the last token is read again, for its logits
            child = next(
                (i for i in cached.slots if cached.draft.parents[i] == node and cached.draft.tokens[i] == token), None
            )
            if child is None:
                break
            accepted.append(child)
            node = child
        slots = np.array([cached.slots.pop(node) for node in accepted], dtype=np.int64)
        self._free(cached)
        if accepted:
            cached.pages.extend(new[: len(accepted)], slots)

    def _free(self, cached: _CachedSequence) -> None:
        """Free the keys and values of a draft."""
        self.runner.forest.pool.free(np.array(list(cached.slots.values()), dtype=np.int64))
        cached.slots = {}

    def _forward(self, segments: Sequence[Segment], scratch: Sequence[Slots]) -> torch.Tensor:
        """Logits (n, V) in the order of the segments; where the pass fails the ``scratch`` slots are freed."""
        with ExitStack() as undo:
            for slots in scratch:
                undo.callback(self.runner.forest.pool.free, slots)
            logits, rows = self.runner.forward(segments)
            undo.pop_all()
        return logits[[place for segment_rows in rows for place in segment_rows]]
