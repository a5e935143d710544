"""Page table of a sequence: the slots of its tokens in the radix cache of one model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from .pool import Slots
from .radix_node import RadixNode, slots_of
from .radix_tree import RadixCache

CHUNK = 16
"""Slots that are reserved at a time: reading contiguous slots of a sequence is three times as fast."""


class PageTable:
    """A referenced node of the cache and the slots of all tokens up to it."""

    def __init__(self, forest: RadixCache, tokens: Sequence[int]) -> None:
        """Insert ``tokens``; a later pass computes the new ones. Raises OutOfMemory."""
        self.forest = forest
        self.node, self.reused = forest.match_prefix(tokens)
        if forest.pool.rereads:
            self.reused = min(self.reused, _kept(forest.unread(self.node), self.reused))
        self.length = len(tokens)
        """Tokens that are computed or scheduled."""
        self._table: Slots | None = None
        self._reserved: Slots = np.zeros(0, dtype=np.int64)
        if forest.pool.windows is not None:
            forest.pool.windows.hold(self.window())

    def fork(self) -> PageTable:
        """A second page table over the same tokens; nothing is computed or moved."""
        twin = copy(self)
        twin._table = None if self._table is None else self._table.copy()
        twin._reserved = np.zeros(0, dtype=np.int64)
        self.forest.retain(self.node)
        return twin

    @property
    def table(self) -> Slots:
        """Slots (length,) of all tokens; valid once they are computed, because uncomputed slots may be replaced."""
        if self._table is None:
            self._table = np.empty(max(64, 2 * self.length), dtype=np.int64)
            self._table[: self.length] = slots_of(self.node.path())
        return self._table[: self.length]

    @property
    def begins(self) -> bool:
        """Whether no token was added to those it began with."""
        return self._table is None

    def missing(self) -> list[tuple[RadixNode, int]]:
        """Nodes on the path that must be read, from the top down, and from which of their tokens on."""
        states, windows = self.forest.pool.states, self.forest.pool.windows
        if (
            self._table is not None
            and (states is None or self.last_state() == self._table[self.length - 1])
            and (windows is None or windows.whole(self.table))
        ):
            return []
        return self.forest.unread(self.node)

    def window(self) -> Slots:
        """Slots whose rows of layers with windows it needs: of the tokens that the next one to be read sees, and those
        that are reserved.
        """
        windows = self.forest.pool.windows
        assert windows is not None  # noqa: S101  # a model without windows has no rows
        table = slots_of(self.node.path()) if self._table is None else self.table
        missing = self.missing()
        read = missing[0][0].start + missing[0][1] if missing else self.length
        return np.concatenate((windows.seen(table[:read]), self._reserved))

    def last_state(self) -> int | None:
        """Slot of the last token whose state is kept; None without any. A state that a text begins at is no longer
        dropped when the text goes on.
        """
        states, node = self.forest.pool.states, self.node
        while states is not None and node.parent is not None:
            known = states.known(node.slots[: node.computed])
            if known:
                slot = int(node.slots[known - 1])
                if self.begins:
                    states.begin_at(slot)
                return slot
            node = node.parent
        return None

    def slots_needed(self, count: int) -> int:
        """Slots to allocate from the pool for ``count`` new tokens."""
        return max(0, count - len(self._reserved))

    def take(self, count: int, ahead: int = CHUNK) -> Slots:
        """Slots (count,) for new tokens, contiguous if possible, ``ahead`` reserved at a time. Raises OutOfMemory."""
        reserved = self._reserved
        if count > len(reserved):
            more = self.forest.allocate(max(count - len(reserved), ahead))
            reserved = np.sort(np.concatenate((reserved, more))) if len(reserved) else more
        self._reserved = reserved[count:]
        return reserved[:count]

    def give_back(self, slots: Slots) -> None:
        """Return slots that were taken and not used to the reserve."""
        if len(slots):
            merged = np.concatenate((slots, self._reserved))
            ordered = not len(self._reserved) or slots[-1] < self._reserved[0]  # as where they were taken last
            self._reserved = merged if ordered else np.sort(merged)

    def free_reserved(self) -> None:
        """Return reserved slots to the pool."""
        self.forest.pool.free(self._reserved)
        self._reserved = self._reserved[:0]

    def extend(self, tokens: Sequence[int], slots: Slots) -> None:
        """Append verified tokens, stored in ``slots`` (len(tokens),)."""
        node, table, length = self.node, self._table, self.length
        end = length + len(tokens)
        if table is None or end > len(table):
            table = np.empty(2 * end, dtype=np.int64)
            table[:length] = self.table
            self._table = table
        if node.is_own:
            table[length:end] = slots
            node.grow(tokens, table[node.start : end])
        else:
            self.node, table[length:end] = self.forest.extend(node, tokens, slots)
        self.length = end

    def extend_chosen(self, tokens: Sequence[int], slots: Slots, chosen: Sequence[int]) -> None:
        """Append verified tokens, stored in the slots at these places, ascending; the others are given back."""
        count = len(chosen)
        if chosen[-1] == count - 1:  # the first ones
            held, others = slots[:count], slots[count:]
        else:
            unused = np.ones(len(slots), dtype=np.bool_)
            unused[chosen] = False
            held, others = slots[chosen], slots[unused]
        self.extend(tokens, held)
        self.give_back(others)

    def release(self, *, keep: bool) -> None:
        """Give up all tokens; see :meth:`RadixCache.release`."""
        self.free_reserved()
        self.forest.release(self.node, keep=keep)


def _kept(unread: Sequence[tuple[RadixNode, int]], cached: int) -> int:
    """How many of the ``cached`` first tokens need not be read: those before a state, or read for another text."""
    if not unread or any(not node.complete for node, _ in unread if node.end <= cached):
        return cached  # another text's reading ends there
    first, known = unread[0]
    return first.start + known
