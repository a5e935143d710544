"""Keys and values of layers with a sliding window: rows of their own, for the tokens that some text still sees.

A row is addressed by the slot of its token. It is taken when the token is read or drafted, and given back when no live
text sees the token any more. Like the states of :mod:`.state_store`, windows are kept where texts may go on: before
the ends of live sequences, and as snapshots before the ends of read runs of prompts and of finished texts. Snapshots
are dropped, least recently used first, when memory is short; a text that begins where a part of the window is missing
is read again from the nearest token before which it is whole. So what is read does not depend on what was given back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .slot_memory import SlotMemory, Slots


class WindowRows:
    """The rows of one model's layers with windows. Row 0 holds zeros and is that of all tokens without one."""

    def __init__(
        self, layers: list[tuple[int, int]], windows: Sequence[int | None], dtype: torch.dtype, device: torch.device
    ) -> None:
        """``layers`` as in :class:`.slot_memory.SlotMemory`, and the window of each; at least one has one."""
        self.layers = frozenset(layer for layer, window in enumerate(windows[: len(layers)]) if window is not None)
        """The layers whose keys and values are here."""
        self.window = max(window for window in windows[: len(layers)] if window is not None)
        """The longest window: a token sees itself and the ``window - 1`` tokens before it."""
        own = [kind if layer in self.layers else (0, 0) for layer, kind in enumerate(layers)]
        self._memory = SlotMemory(own, dtype, device, sys.maxsize)
        self.row_of: Slots = np.zeros(0, dtype=np.int64)
        """(slots,) the row of each slot's token."""
        self._slot_of: Slots = np.zeros(0, dtype=np.int64)
        """(rows,) its slot; -1 for a free row."""
        self._snapshot: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """(rows,) whether a text may begin after its token, or after one whose window has it."""
        self._held: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """(rows,) whether a live text sees its token."""
        self._last: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        """(rows,) when a live text saw its token last."""
        self._clock = 0
        self._take_zeros()

    def fix(self, slots: int, rows: int) -> None:
        """Allocate so many rows now, for the tokens of so many slots, and no others ever; nothing may be in use.

        One more row is :attr:`scratch`.
        """
        self._memory.fix(rows + 1)
        self.row_of = np.zeros(slots, dtype=np.int64)
        self._slot_of = self._last = np.zeros(0, dtype=np.int64)
        self._snapshot = self._held = np.zeros(0, dtype=np.bool_)
        self._take_zeros()

    def clear(self) -> None:
        """All rows are free again."""
        self._memory.clear()
        self.row_of[:] = 0
        self._slot_of[:] = -1
        self._snapshot[:] = self._held[:] = False
        self._take_zeros()

    @property
    def scratch(self) -> int:
        """A row of fixed memory that is never taken, for keys and values that nobody reads."""
        return self._memory.scratch

    @property
    def most(self) -> int:
        """The most rows that can be in use."""
        return self._memory.most - 1

    @property
    def free(self) -> int:
        """Rows that can be taken."""
        return self.most - self.used

    @property
    def before(self) -> int:
        """Tokens before the next one that it sees."""
        return self.window - 1

    @property
    def entries(self) -> list[torch.Tensor]:
        """By layer ``(rows, 2, kv_heads, head_dim)``, empty for layers without a window."""
        return self._memory.entries

    @property
    def row_bytes(self) -> int:
        """Bytes of one token in all these layers."""
        return self._memory.entry_bytes

    @property
    def used(self) -> int:
        """Rows in use."""
        return self._memory.used - 1

    @property
    def peak(self) -> int:
        """The most rows that were in use at one time."""
        return self._memory.peak - 1

    def address(self, slots: int) -> None:
        """There are so many slots now."""
        self.row_of = np.concatenate((self.row_of, np.zeros(slots - len(self.row_of), dtype=np.int64)))

    def rows(self, slots: torch.Tensor) -> torch.Tensor:
        """The rows of the tokens in ``slots`` (n,), on their device; found on the host, as all slots are many."""
        return torch.from_numpy(self.row_of[slots.cpu().numpy()]).to(slots.device)

    def take(self, slots: Slots) -> None:
        """Rows for the tokens in ``slots`` (n,) that have none; all of them stay until the next sweep."""
        new = slots[self.row_of[slots] == 0]
        if len(new):
            self.row_of[new] = self._take(new)
        self.hold(slots)  # those that had one may be what is left of a snapshot

    def drop(self, slots: Slots) -> None:
        """Give back the rows of tokens whose slots are freed."""
        rows = self.row_of[slots]
        self._give_back(rows[rows > 0])

    def move(self, old: Slots, new: Slots) -> None:
        """The same tokens (n,) are stored elsewhere: rows that are missing there are addressed by the new slots."""
        moved = (self.row_of[new] == 0) & (self.row_of[old] > 0)
        rows = self.row_of[old[moved]]
        self.row_of[new[moved]], self.row_of[old[moved]] = rows, 0
        self._slot_of[rows] = new[moved]

    def seen(self, slots: Slots) -> Slots:
        """Of a text's tokens in ``slots`` (n,) those that its next token sees."""
        return slots[max(0, len(slots) - self.before) :]

    def whole(self, slots: Slots) -> bool:
        """Whether a text can go on after its tokens in ``slots`` (n,)."""
        return bool(self.row_of[self.seen(slots)].all())

    def known(self, slots: Slots) -> int:
        """After how many of a text's tokens in ``slots`` (n,) it can go on at most."""
        if self.whole(slots):
            return len(slots)
        missing = np.flatnonzero(self.row_of[slots] == 0)
        first, last = np.append(-1, missing) + 1, np.append(missing, len(slots))  # of the runs between them
        return int(last[(first == 0) | (last - first >= self.before)].max())

    def hold(self, slots: Slots) -> None:
        """A live text sees the tokens in ``slots`` (n,): their rows stay until the next sweep."""
        self._held[self.row_of[slots]] = True

    def keep(self, slots: Slots) -> None:
        """Keep the window after a text's tokens in ``slots`` (n,) as a snapshot."""
        rows = self.row_of[self.seen(slots)]
        self._snapshot[rows] = True
        self._last[rows] = self._clock

    def sweep(self, held: Iterable[Slots]) -> None:
        """Give back what is neither a snapshot nor among the tokens that live texts hold, the slots of each (n,)."""
        self._clock += 1
        self._held[:] = False
        for slots in held:
            self.hold(slots)
        self._last[self._held] = self._clock
        self._give_back(np.flatnonzero((self._slot_of >= 0) & ~self._held & ~self._snapshot))

    def drop_snapshots(self, count: int) -> int:
        """Give back ``count`` rows of snapshots, or as many as there are, least recently used first."""
        rows = np.flatnonzero((self._slot_of >= 0) & self._snapshot & ~self._held)
        rows = rows[np.argsort(self._last[rows], kind="stable")][:count]
        self._give_back(rows)
        return len(rows)

    def check(self) -> None:
        """Raise AssertionError where slots and rows do not name each other."""
        rows = np.flatnonzero(self._slot_of >= 0)
        assert len(rows) == self.used  # noqa: S101  # an integrity check
        assert (self.row_of[self._slot_of[rows]] == rows).all()  # noqa: S101
        assert np.count_nonzero(self.row_of) == len(rows)  # noqa: S101

    def _take_zeros(self) -> None:
        self._take(np.array([-2]))
        for entries in self.entries:
            entries[:1] = 0  # its values have no weight, and must be numbers

    def _take(self, slots: Slots) -> Slots:
        rows = self._memory.take(len(slots))
        more = self._memory.capacity - len(self._slot_of)
        if more:
            self._slot_of = np.append(self._slot_of, np.full(more, -1))
            self._last = np.append(self._last, np.zeros(more, dtype=np.int64))
            self._snapshot, self._held = (
                np.append(flags, np.zeros(more, dtype=np.bool_)) for flags in (self._snapshot, self._held)
            )
        self._slot_of[rows] = slots
        return rows

    def _give_back(self, rows: Slots) -> None:
        self.row_of[self._slot_of[rows]] = 0
        self._slot_of[rows] = -1
        self._snapshot[rows] = self._held[rows] = False
        self._memory.free(rows)
