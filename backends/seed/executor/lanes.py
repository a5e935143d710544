"""Lanes: the keys and values of decoding branches, kept side by side from one pass to the next.

The pool is the ground truth; it scatters a branch's tokens, so that a pass which reads them must gather them first, in
every layer. A branch that takes part in pass after pass therefore has a lane: a copy of its private keys in the layout
that attention reads, to which a pass adds its new tokens. Lanes of similar length lie in one tensor, without gaps, so
that one call attends to all of them in place.

A position of a lane is valid while it was copied from the slot that the branch holds there, and not before the slot was
written last; whatever is not valid is copied again. So it does not matter how a branch came to other slots: by rejected
drafts, by preemption, or because the prefix cache had the same tokens already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..kv_cache.pool import SlotPool, Slots
from .attention_call import private_keys
from .buckets import NARROW, partition
from .lane_class import LaneClass
from .segment import Segment

LEAST = 4
"""Branches of a pass from which on lanes pay; fewer are gathered in less time than lanes take to keep."""

SLACK = 16
"""Positions that a new lane has left at least."""

SHARE = 4
"""Lanes take at most this part of the memory for keys and values, and at most ``MOST`` bytes."""

MOST = 2**28


@dataclass(slots=True, eq=False)
class LaneCopies:
    """What a pass copies into lanes of one tensor, after its new keys and values are in the pool."""

    layers: Sequence[torch.Tensor]
    """Per layer (L, 2, h, C, D)."""
    first: int
    """Where its entries begin among those of the pass: those for single positions, then those of whole lanes."""
    lanes: torch.Tensor
    """(N,) lane of each single position."""
    positions: torch.Tensor
    """(N,)"""
    whole: list[tuple[int, int]]
    """(lane, length) of lanes that are copied whole."""


@dataclass(slots=True, eq=False)
class LanePlan:
    """The lanes of one pass."""

    calls: list[tuple[list[int], Sequence[torch.Tensor]]]
    """Segments in the order of their lanes, and the lanes per layer."""
    slots: torch.Tensor
    """(F,) slots of all entries to copy."""
    copies: list[LaneCopies]

    def copy(self, layer: int, entries: torch.Tensor) -> None:
        """Bring the lanes of a layer up to date with its ``entries`` (slots, 2, h, D) in the pool."""
        held = entries.index_select(0, self.slots)  # (F, 2, h, D)
        for part in self.copies:
            lanes, at = part.layers[layer], part.first
            count = len(part.positions)
            if count:
                lanes.permute(0, 3, 1, 2, 4).index_put_((part.lanes, part.positions), held[at : at + count])
            at += count
            for lane, length in part.whole:
                lanes[lane, :, :, :length] = held[at : at + length].permute(1, 2, 0, 3)
                at += length


class Lanes:
    """The lanes over one pool."""

    def __init__(self, pool: SlotPool, memory: int) -> None:
        """``memory``: bytes that pool and lanes may take together."""
        self._pool, self._memory = pool, memory
        self._slot_bytes = pool.slot_bytes
        self.peak = 0
        """The most bytes that lanes took at one time."""
        self._classes: dict[int, LaneClass] = {}
        self._written: Slots = np.zeros(0, dtype=np.int64)
        self._pass = 0
        self._unfinished = False

    @property
    def held(self) -> int:
        """Branches that have a lane."""
        return sum(len(part.owners) for part in self._classes.values())

    def clear(self) -> None:
        """Drop all lanes."""
        self._classes = {}

    def done(self) -> None:
        """Record that the pass that was planned last has been computed."""
        self._unfinished = False

    def plan(self, spans: Sequence[Segment], depths: Sequence[int]) -> LanePlan | None:
        """Lanes for those of a pass's segments that pay; the first ``depths`` keys of each are attended to elsewhere.

        None when there are none. Lanes of branches that take no part are dropped.
        """
        if self._unfinished:  # the lanes do not hold what was planned
            self.clear()
        self._unfinished = True
        self._pass += 1
        if len(self._written) < self._pool.capacity:
            self._written = np.concatenate(
                (self._written, np.zeros(self._pool.capacity - len(self._written), dtype=np.int64))
            )
        for span in spans:
            self._written[span.slots] = self._pass
        wanted = {
            span.owner: i for i, span in enumerate(spans) if span.owner is not None and len(span.tokens) <= NARROW
        }
        if self._pool_bytes() + self._bytes() > self._memory:
            self.clear()
        if len(wanted) < LEAST:
            self.clear()
            return None
        sizes = {owner: (private_keys(spans[i], depths[i]), depths[i]) for owner, i in wanted.items()}
        self._seat(sizes)
        calls: list[tuple[list[int], Sequence[torch.Tensor]]] = []
        copies: list[LaneCopies] = []
        slots: list[Slots] = []
        first = 0
        for part in self._classes.values():
            members = [wanted[owner] for owner in part.owners]
            lanes, positions, whole, more = part.update([spans[i] for i in members], self._written, self._pass)
            calls.append((members, part.layers))
            lengths = [private_keys(spans[members[lane]], depths[members[lane]]) for lane in whole]
            copies.append(
                LaneCopies(
                    part.layers,
                    first,
                    torch.from_numpy(lanes),
                    torch.from_numpy(positions),
                    list(zip(whole.tolist(), lengths, strict=True)),
                )
            )
            slots.append(more)
            first += len(more)
        if not calls:
            return None
        return LanePlan(calls, torch.from_numpy(np.concatenate(slots)), copies)

    def _pool_bytes(self) -> int:
        return self._pool.capacity * self._slot_bytes

    def _bytes(self) -> int:
        return sum(part.bytes for part in self._classes.values())

    def _seat(self, sizes: dict[object, tuple[int, int]]) -> None:
        """Give lanes to branches, by their private keys and the keys before these; free those of all others."""
        free: dict[int, list[int]] = {}
        waiting = dict(sizes)
        for capacity, part in self._classes.items():
            for lane, owner in enumerate(part.owners):
                keys, depth = sizes.get(owner, (math.inf, 0))
                if keys <= capacity and part.start(lane) == depth:
                    del waiting[owner]
                else:
                    free.setdefault(capacity, []).append(lane)
        capacities = _capacities([keys for keys, _ in sizes.values()]) if waiting else {}
        for owner, (keys, depth) in waiting.items():
            chosen = self._class_for(capacities[_capacity(keys + SLACK)], free)
            if chosen is None:
                continue
            spare = free.get(chosen.capacity)
            chosen.seat(spare.pop(0) if spare else len(chosen.owners), owner, depth)
        for capacity, holes in free.items():
            for lane in reversed(holes):
                self._classes[capacity].remove(lane)
        self._classes = {capacity: part for capacity, part in self._classes.items() if part.owners}
        self.peak = max(self.peak, self._bytes())

    def _class_for(self, capacity: int, free: dict[int, list[int]]) -> LaneClass | None:
        """The class of a capacity, where another lane fits; None where memory is short."""
        best = self._classes.get(capacity) or LaneClass(capacity, self._pool)
        spare = free.get(best.capacity)
        count = len(best.owners) + (0 if spare else 1)
        total = self._bytes() - best.bytes + best.bytes_with(count)
        if total > min(MOST, self._memory // SHARE) or total + self._pool_bytes() > self._memory:
            return None
        self._classes[best.capacity] = best
        return best


def _capacity(keys: int) -> int:
    """The least capacity of a class for so many keys: two for each doubling."""
    capacity = 64
    while capacity < keys:
        capacity = capacity * 3 // 2 if capacity & (capacity - 1) == 0 else capacity * 4 // 3
    return capacity


def _capacities(keys: Sequence[int]) -> dict[int, int]:
    """For the least capacity of each branch the one that it gets: the cheapest set, as in :func:`partition`."""
    least = [_capacity(count + SLACK) for count in keys]
    taken: dict[int, int] = {}
    for members in partition([(1, capacity) for capacity in least]):
        top = max(least[i] for i in members)
        taken.update((least[i], top) for i in members)
    return taken
