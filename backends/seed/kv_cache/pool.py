"""Pool of token slots for keys and values, with what layers keep of a token apart from its slot."""

from __future__ import annotations

import torch

from .fixed_shares import fixed_shares
from .slot_memory import SlotMemory, Slots
from .state_store import StateStore
from .window_rows import WindowRows

__all__ = ["SlotPool", "Slots"]


class SlotPool(SlotMemory):
    """The slots of one model's tokens; layers with windows and layers with a recurrence have memory of their own.

    With :attr:`windows` the limit is one for both kinds of layers: it is the number of tokens whose keys and values of
    all layers take the memory there is, and what windows give back serves more slots. Where memory is fixed, each kind
    has a share of its own (:func:`.fixed_shares.fixed_shares`).
    """

    def __init__(
        self,
        layers: list[tuple[int, int]],
        dtype: torch.dtype,
        device: torch.device,
        limit: int,
        states: StateStore | None = None,
        windows: WindowRows | None = None,
        beside: int = 0,
    ) -> None:
        """``layers`` as in :class:`SlotMemory`; those of ``windows`` have none here.

        ``beside``: bytes that a head keeps for each slot, in memory of its own.
        """
        own = [(0, 0) if windows is not None and i in windows.layers else kind for i, kind in enumerate(layers)]
        super().__init__(own, dtype, device, limit)
        self.entry_bytes += beside
        self.states = states
        """The states of layers with a recurrence; None for a model without such layers."""
        self.windows = windows
        """The rows of layers with a window; None where slots hold the keys and values of all layers."""

    def fix(self, count: int, context: int | None = None) -> None:
        """See :class:`SlotMemory`; the memory of ``count`` tokens is divided for texts of up to ``context`` tokens."""
        if self.windows is None:
            super().fix(count)
            return
        windows = self.windows
        slots, rows = fixed_shares(count, self.entry_bytes, windows.row_bytes, windows.window, context or count)
        super().fix(slots)
        windows.fix(slots, rows)
        self.limit = count

    def clear(self) -> None:
        """See :class:`SlotMemory`."""
        super().clear()
        if self.windows is not None:
            self.windows.clear()

    @property
    def rereads(self) -> bool:
        """Whether cached tokens may have to be read again, because a part of what was computed is gone."""
        return self.states is not None or self.windows is not None

    @property
    def slot_bytes(self) -> int:
        """Bytes of one token: keys and values of all layers, and what a head keeps of it."""
        return self.entry_bytes + (0 if self.windows is None else self.windows.row_bytes)

    @property
    def peak_bytes(self) -> int:
        """Bytes of the most slots, and the most rows, that were in use at one time."""
        rows = 0 if self.windows is None else self.windows.peak * self.windows.row_bytes
        return self.peak * self.entry_bytes + rows

    @property
    def most(self) -> int:
        """See :class:`SlotMemory`; beside the rows that are in use."""
        if self.windows is None:
            return self.limit
        if self.fixed:
            return self.capacity
        return self._used + self._free_bytes // max(1, self.entry_bytes)

    @property
    def room(self) -> int:
        """Tokens that can be allocated before the limit is reached."""
        if self.windows is None:
            return self.limit - self._used
        if self.fixed:
            return min(self.capacity - self._used, self.windows.free)
        return self._free_bytes // self.slot_bytes

    @property
    def _free_bytes(self) -> int:
        assert self.windows is not None  # noqa: S101  # without windows slots are counted
        used = self._used * self.entry_bytes + self.windows.used * self.windows.row_bytes
        return self.limit * self.slot_bytes - used

    def short(self, slots: int, rows: int) -> int:
        """Tokens to be given up before there is memory for so many ``slots``, and ``rows`` of layers with windows."""
        if self.windows is None:
            return max(0, slots - self.room)
        if self.fixed:
            return max(0, slots - (self.capacity - self._used), rows - self.windows.free)
        need = slots * self.entry_bytes + rows * self.windows.row_bytes
        return max(0, -((self._free_bytes - need) // self.slot_bytes))

    def readable(self, count: int, beside: int) -> int:
        """How many of ``count`` tokens in slots can be read while ``beside`` tokens are to be allocated."""
        if self.windows is None:
            return count
        if self.fixed:
            return max(0, min(count, self.windows.free - beside))
        return max(0, min(count, (self._free_bytes - beside * self.slot_bytes) // self.windows.row_bytes))

    def most_tokens(self, branches: int) -> int:
        """The most tokens of a request with so many branches, of which layers with windows keep the ends."""
        if self.windows is None:
            return self.limit
        if self.fixed:
            fits = 2 * branches * self.windows.window <= self.windows.most
            return self.capacity if fits else min(self.capacity, self.windows.most)
        return max(self.limit, (self.limit * self.slot_bytes - self._end_bytes(branches)) // max(1, self.entry_bytes))

    def request_bytes(self, tokens: int, branches: int) -> int:
        """Bytes that must be free for so many tokens of a request with so many branches."""
        whole = tokens * self.slot_bytes
        return whole if self.windows is None else min(whole, tokens * self.entry_bytes + self._end_bytes(branches))

    def _end_bytes(self, branches: int) -> int:
        assert self.windows is not None  # noqa: S101  # without windows slots are counted
        return 2 * branches * self.windows.window * self.windows.row_bytes  # one window is read while one is seen

    def allocate(self, count: int) -> Slots:
        """``count`` free slots, and their rows of layers with windows. The caller checked :attr:`room`."""
        slots = self.allocate_unread(count, count)
        if self.windows is not None:
            self.windows.take(slots)
        return slots

    def allocate_unread(self, count: int, rows: int = 0) -> Slots:
        """``count`` free slots, which get rows when their tokens are read. The caller checked :meth:`short`."""
        if self.short(count, rows):
            raise MemoryError(f"{count} slots requested, {self.room} left")
        return self.take(count)

    def free(self, slots: Slots) -> None:
        """Give slots back."""
        if self.states is not None:
            self.states.drop(slots.tolist())
        if self.windows is not None:
            self.windows.drop(slots)
        super().free(slots)

    def replace(self, slots: Slots, by: Slots) -> None:
        """Give slots back whose tokens are stored in other slots too."""
        if self.states is not None:
            self.states.move(slots, by)
        if self.windows is not None:
            self.windows.move(slots, by)
        self.free(slots)

    def _grow(self, needed: int) -> None:
        super()._grow(needed)
        if self.windows is not None:
            self.windows.address(self.capacity)
