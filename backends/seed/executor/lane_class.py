"""Lanes of one capacity: which branches have them, and from which slots each of their positions was copied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..kv_cache.pool import SlotPool, Slots
from .segment import Segment

WHOLE = 24
"""Invalid positions of a lane from which on all of it is copied, in one piece."""


class LaneClass:
    """Lanes of one capacity C; the first of them are in use, without gaps."""

    def __init__(self, capacity: int, pool: SlotPool) -> None:
        self.capacity = capacity
        self.owners: list[object] = []
        """Of each lane in use."""
        self.layers: list[torch.Tensor] = []
        """Per layer (L, 2, h, C, D)."""
        self._pool = pool
        self._position = pool.slot_bytes
        self._slots: Slots = np.full((0, capacity), -1, dtype=np.int64)  # (L, C) where each position was copied from
        self._passes: Slots = np.zeros((0, capacity), dtype=np.int64)  # (L, C) in which pass
        self._starts: Slots = np.zeros(0, dtype=np.int64)  # (L,) the position in the text of a lane's first key

    @property
    def bytes(self) -> int:
        """Memory of the lanes, in use or not."""
        return self._position * self.capacity * len(self._starts)

    def start(self, lane: int) -> int:
        """How many keys of its branch come before those in the lane."""
        return int(self._starts[lane])

    def bytes_with(self, count: int) -> int:
        """Memory when ``count`` lanes are in use."""
        return self._position * self.capacity * self._grown(count)

    def seat(self, lane: int, owner: object, start: int) -> None:
        """Give a lane, free or at the end, to a branch."""
        if lane == len(self.owners):
            self.owners.append(owner)
            if lane >= len(self._starts):
                self._grow(self._grown(lane + 1))
        self.owners[lane] = owner
        self._slots[lane] = -1
        self._starts[lane] = start

    def remove(self, lane: int) -> None:
        """Move the last lane to the place of one that is free."""
        last = len(self.owners) - 1
        owner = self.owners.pop()
        if lane == last:
            return
        for lanes in self.layers:
            lanes[lane] = lanes[last]
        for table in (self._slots, self._passes, self._starts):
            table[lane] = table[last]
        self.owners[lane] = owner

    def update(self, spans: Sequence[Segment], written: Slots, now: int) -> tuple[Slots, Slots, Slots, Slots]:
        """Plan copies of what is not valid for the segments of all lanes in use, in pass ``now``.

        ``written`` (slots,) is the pass in which each slot was written last. Returns the lanes and positions (N,) of
        single copies, the lanes that are copied whole, and the slots to copy, in this order.
        """
        count, starts = len(self.owners), self._starts.tolist()
        own = [span.context[start:] for span, start in zip(spans, starts, strict=False)]
        lengths = np.array([len(some) + len(span.slots) for some, span in zip(own, spans, strict=True)])  # (B,)
        held = np.concatenate([part for some, span in zip(own, spans, strict=True) for part in (some, span.slots)])
        lane = np.repeat(np.arange(count), lengths)  # of each key, in the order of the lanes
        firsts = np.cumsum(lengths) - lengths
        places = np.arange(len(held)) - np.repeat(firsts, lengths)
        flat = lane * self.capacity + places
        known, passes = self._slots.reshape(-1), self._passes.reshape(-1)
        stale = np.flatnonzero(stale_positions(held, known[flat], written, passes[flat]))
        is_whole = (np.bincount(lane[stale], minlength=count) >= WHOLE) | (self._slots[:count, 0] < 0)
        whole = np.flatnonzero(is_whole)
        single = stale
        slots = [held[stale]]
        if len(whole):
            single = stale[~is_whole[lane[stale]]]
            stale = np.union1d(single, np.flatnonzero(is_whole[lane]))
            slots = [held[single]]
            for row in whole.tolist():  # what lies behind is from another branch; it is masked, but may hold no number
                slots.append(held[firsts[row] : firsts[row] + lengths[row]])
                for lanes in self.layers:
                    lanes[row, :, :, lengths[row] :] = 0
        known[flat[stale]] = held[stale]
        passes[flat[stale]] = now
        return lane[single], places[single], whole, np.concatenate(slots)

    def _grown(self, count: int) -> int:
        held = len(self._starts)
        return held if count <= held else max(4, count, held * 5 // 4)

    def _grow(self, count: int) -> None:
        pool, held = self._pool, len(self._starts)
        for layer, entries in enumerate(pool.entries):
            grown = _zeros((count, *entries.shape[1:3], self.capacity, entries.shape[3]), entries)
            if held:
                grown[:held] = self.layers[layer]
                self.layers[layer] = grown
            else:
                self.layers.append(grown)
        more = count - held
        self._slots = np.concatenate((self._slots, np.full((more, self.capacity), -1, dtype=np.int64)))
        self._passes = np.concatenate((self._passes, np.zeros((more, self.capacity), dtype=np.int64)))
        self._starts = np.concatenate((self._starts, np.zeros(more, dtype=np.int64)))


def stale_positions(held: Slots, known: Slots, written: Slots, passes: Slots) -> NDArray[np.bool_]:
    """(N,) where positions of lanes do not hold what is in the slots ``held`` (N,) now.

    ``known`` (N,) are the slots that they were copied from, in ``passes`` (N,); ``written`` (slots,) as in
    :meth:`LaneClass.update`.
    """
    stale: NDArray[np.bool_] = (known != held) | (passes < written[held])
    return stale


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros; on a CPU they take memory only once they are written."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return (
        torch.from_numpy(np.zeros(math.prod(shape) * like.element_size(), dtype=np.uint8)).view(like.dtype).view(shape)
    )
