"""Memory for keys and values by number: a slot is written once, never moved, and addressed by its number."""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from numpy.typing import NDArray

Slots = NDArray[np.int64]

FIRST = 512
"""Slots of a new pool."""
GROWTH = 1.15
"""Factor by which a full pool grows: what is allocated stays near the peak."""
RESERVED = 4
"""Slots reserved for each that is allocated when tensors are replaced; on a CPU they take memory once they are written.

Growing within them copies nothing and leaves no gaps of every size behind."""


class SlotMemory:
    """Keys and values of one model, per layer one tensor ``(slots, 2, kv_heads, head_dim)``.

    It grows on demand up to ``limit`` slots. Growing may copy the tensors, but a slot keeps its number.
    """

    def __init__(self, layers: list[tuple[int, int]], dtype: torch.dtype, device: torch.device, limit: int) -> None:
        """``layers`` holds each layer's number of key-value heads and head dimension, (0, 0) for one without any."""
        self.limit = limit
        self.entries = [torch.empty(0, 2, heads, dim, dtype=dtype, device=device) for heads, dim in layers]
        """Per layer; key and value of a token stand side by side, so that one gather brings both."""
        self.entry_bytes = sum(math.prod(each.shape[1:]) * each.element_size() for each in self.entries)
        """Bytes of one slot in all layers."""
        self._reserved = list(self.entries)
        self.peak = 0
        """The most slots that were in use at one time."""
        self._mask = bytearray()
        """For each slot 1 where it is free, else 0: ``bytearray.find`` finds free runs in microseconds."""
        self._free: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """The same memory as an array."""
        self._used = 0
        self._fixed = False

    def fix(self, count: int) -> None:
        """Allocate ``count`` slots now, and no others ever; nothing may be in use. One more slot is :attr:`scratch`."""
        self.limit = count
        self.entries = [old.new_zeros(count + 1, *old.shape[1:]) for old in self.entries]
        self._reserved = list(self.entries)
        self._mask = bytearray(b"\1" * count)
        self._free = np.frombuffer(self._mask, dtype=np.bool_)
        self._fixed = True

    @property
    def scratch(self) -> int:
        """A slot of a fixed pool that is never allocated, for keys and values that nobody reads."""
        return self.capacity

    @property
    def rows(self) -> int:
        """Slots that there is memory for, the scratch included."""
        return len(self.entries[0])

    def clear(self) -> None:
        """All slots are free again."""
        self._free[:] = True
        self._used = self.peak = 0

    @property
    def fixed(self) -> bool:
        """Whether its memory stays where it is."""
        return self._fixed

    def lift_limit(self) -> None:
        """Let the pool grow without a limit, unless it is fixed."""
        if not self._fixed:
            self.limit = sys.maxsize

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._used

    @property
    def capacity(self) -> int:
        """Slots that memory is allocated for."""
        return len(self._free)

    @property
    def most(self) -> int:
        """The most slots that it may grow to."""
        return self.limit

    def take(self, count: int) -> Slots:
        """``count`` free slots, ascending and side by side where that is possible. The caller checked the limit."""
        if self._used + count > self.capacity:
            self._grow(self._used + count)
        start = self._mask.find(b"\1" * count)
        slots: Slots = np.arange(start, start + count) if start >= 0 else np.flatnonzero(self._free)[:count]
        self._free[slots] = False
        self._used += count
        self.peak = max(self.peak, self._used)
        return slots

    def free(self, slots: Slots) -> None:
        """Give slots back."""
        self._free[slots] = True
        self._used -= len(slots)

    def is_free(self, slots: Slots) -> bool:
        """Whether any of the slots is free; for integrity checks."""
        return bool(self._free[slots].any())

    def _grow(self, needed: int) -> None:
        capacity = min(self.most, max(FIRST, needed, int(self.capacity * GROWTH)))
        capacity = max(capacity, *map(len, self.entries))  # a growth that failed half-way has left some longer
        reserved = min(self.most, RESERVED * capacity) if self.entries[0].device.type == "cpu" else capacity
        for layer, old in enumerate(self.entries):
            if len(self._reserved[layer]) < capacity:
                grown = old.new_empty(max(reserved, capacity), *old.shape[1:])
                grown[: len(old)] = old
                self._reserved[layer] = grown
            self.entries[layer] = self._reserved[layer][:capacity]
        self._mask = self._mask + b"\1" * (capacity - self.capacity)
        self._free = np.frombuffer(self._mask, dtype=np.bool_)
