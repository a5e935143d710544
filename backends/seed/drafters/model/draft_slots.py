"""Slots of the target's cache for what is drafted: last tokens, and nodes of drafts, until drafts are complete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...executor.model_runner import ModelRunner
from ...kv_cache.pool import Slots
from ...records import SequenceState
from .tree_builder import TreeBuilder

LAST = -1
"""The last token of a sequence among the nodes of its draft, as parents have it."""


class DraftSlots:
    """For each sequence that is drafted for the slots of its last token and of the nodes of its draft."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._slots: dict[SequenceState, dict[int, int]] = {}

    def begin(self, rows: Sequence[SequenceState]) -> Slots:
        """Slots (R,) for the last tokens of sequences. Raises OutOfMemory."""
        slots = self._runner.forest.allocate(len(rows))
        for row, slot in zip(rows, slots.tolist(), strict=True):
            self._slots[row] = {LAST: slot}
        return slots

    def add(self, nodes: Sequence[tuple[TreeBuilder, int]]) -> Slots:
        """Slots (n,) for nodes of drafts. Raises OutOfMemory."""
        slots = self._runner.forest.allocate(len(nodes))
        for (builder, node), slot in zip(nodes, slots.tolist(), strict=True):
            self._slots[builder.row][node] = slot
        return slots

    def above(self, builder: TreeBuilder, node: int) -> Slots:
        """Slots of the last token and a node's ancestors, from the top down."""
        held, parents = self._slots[builder.row], builder.draft.parents
        path = []
        while node != LAST:
            node = parents[node]
            path.append(held[node])
        return np.array(path[::-1], dtype=np.int64)

    def free(self) -> None:
        """Give all back."""
        slots = [slot for held in self._slots.values() for slot in held.values()]
        self._runner.forest.pool.free(np.array(slots, dtype=np.int64))
        self._slots.clear()
