"""A live branch's place in the prefix forest of one model, and which prompt tokens a pass should compute."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from .pool import Slots
from .radix_tree import RadixCache, RadixNode

CHUNK = 16
"""Slots that a branch takes at a time: reading them back is three times as fast when a branch's lie side by side."""


class PageTable:
    """Tokens whose keys and values one model holds: a pinned node and the table of slots from the first token on."""

    def __init__(self, forest: RadixCache, tokens: Sequence[int]) -> None:
        """Join the forest with ``tokens``, which a coming pass computes as far as they are new. Raises OutOfMemory."""
        self.forest = forest
        self.node, self.reused = forest.join(tokens)
        self.length = len(tokens)
        """Tokens held, or on their way."""
        self._table: Slots | None = None
        self._spare: Slots = np.zeros(0, dtype=np.int64)

    def fork(self) -> PageTable:
        """Another branch that holds the same tokens; nothing is computed or moved."""
        twin = copy(self)
        twin._table = None if self._table is None else self._table.copy()
        twin._spare = np.zeros(0, dtype=np.int64)
        self.node.pins += 1
        return twin

    @property
    def table(self) -> Slots:
        """Slots (length,) of all tokens; asked for once they are computed, since until then slots may change hands."""
        if self._table is None:
            path = self.node.path()
            self._table = np.empty(max(64, 2 * self.length), dtype=np.int64)
            if path:
                self._table[: self.length] = np.concatenate([node.slots for node in path])
        return self._table[: self.length]

    def missing(self) -> list[RadixNode]:
        """Nodes on the path that are not computed whole, from the top down."""
        if self._table is not None:
            return []
        return [node for node in self.node.path() if node.computed < len(node.tokens)]

    def wants(self, count: int) -> int:
        """How many slots the pool must give for ``count`` new tokens."""
        return max(0, count - len(self._spare))

    def take(self, count: int, ahead: int = CHUNK) -> Slots:
        """Slots for new tokens, next to the last ones where possible, ``ahead`` at a time. Raises OutOfMemory."""
        if wanted := self.wants(count):
            more = self.forest.allocate(max(wanted, ahead))
            self._spare = np.sort(np.concatenate((self._spare, more)))
        taken, self._spare = self._spare[:count], self._spare[count:]
        return taken

    def give_back(self, slots: Slots) -> None:
        """Slots that were taken and not needed."""
        if len(slots):
            self._spare = np.sort(np.concatenate((slots, self._spare)))

    def free_spare(self) -> None:
        """Give slots that were taken ahead to whoever needs them."""
        self.forest.pool.free(self._spare)
        self._spare = self._spare[:0]

    def extend(self, tokens: Sequence[int], slots: Slots) -> None:
        """Verified tokens after the branch's end, with the slots that hold them."""
        table = self.table
        self.node, held = self.forest.extend(self.node, tokens, slots)
        end = self.length + len(tokens)
        if self._table is None or end > len(self._table):
            grown = np.empty(2 * end, dtype=np.int64)
            grown[: self.length] = table
            self._table = grown
        self._table[self.length : end] = held
        self.length = end

    def leave(self, *, keep: bool) -> None:
        """Unpin what it held; see :meth:`RadixCache.leave`."""
        self.free_spare()
        self.forest.leave(self.node, keep=keep)
