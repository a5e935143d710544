"""States of layers with a recurrence: a row is the state after one token, addressed by the slot of that token.

Keys and values of a prefix serve whatever text follows any part of it; a state serves what follows its last token
alone. So states are kept where texts may go on: at the ends of live sequences, and as snapshots at the ends of read
runs of prompts (a prompt's end, and the place where prompts part) and at the ends of finished texts. Snapshots are
dropped, least recently used first, when rows run out; a text that begins where there is none is read again from the
nearest one before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Shape = tuple[tuple[int, ...], torch.dtype]
"""Of one part of a layer's state, and its type of numbers."""

FIRST = 8
"""Rows of a new store beside the first."""
GROWTH = 1.5
"""Factor by which a full store grows."""


class AwaitedPass(Protocol):
    """A pass whose states are kept until it is known which of its tokens are accepted."""

    def settle(self, store: StateStore, tokens: Sequence[int], rows: Sequence[int]) -> None:
        """Write the states after some of its tokens into rows."""


class StateStore:
    """The states of one model: per layer and part of its state one tensor ``(rows, *shape)``. Row 0 holds zeros.

    The first part of every layer is the tail of its convolution, ``(K - 1, C)``.
    """

    def __init__(self, shapes: Mapping[int, Sequence[Shape]], device: torch.device, memory: int) -> None:
        """``shapes`` of the parts of the state, by layer; ``memory``: the most bytes of all rows."""
        self.parts = {
            layer: [torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in parts]
            for layer, parts in shapes.items()
        }
        self.limit = memory // self.row_bytes
        """The most states."""
        self.assumes_zeros = False
        """Whether a state that is not known is taken to be zero, as in passes that are only measured."""
        self._rows: dict[int, int] = {}
        """Slot of a token to the row of the state after it, the least recently used first."""
        self._free: list[int] = []
        self._passing: set[int] = set()
        """Slots in the middle of generated texts: their states are dropped once no sequence ends there."""
        self._held: frozenset[int] = frozenset()
        """Slots that live sequences go on from."""
        self._pass: AwaitedPass | None = None
        self._tokens: dict[int, int] = {}
        """Slots of the last pass to its tokens, whose states are not in rows yet."""

    @property
    def tail(self) -> int:
        """K - 1, inputs of the convolution that a state holds: the same in all layers."""
        return next(iter(self.parts.values()))[0].shape[1]

    @property
    def row_bytes(self) -> int:
        """Bytes of one state."""
        return sum(part[0].numel() * part.element_size() for parts in self.parts.values() for part in parts)

    @property
    def used(self) -> int:
        """States that are kept."""
        return len(self._rows)

    @property
    def capacity(self) -> int:
        """Rows that memory is allocated for, beside the first."""
        return len(self._rows) + len(self._free)

    def assume_zeros(self) -> None:
        """Take states that are not known to be zero from now on."""
        self.assumes_zeros = True

    def row(self, slot: int) -> int | None:
        """The row of the state after a token; None where it is not kept."""
        row = self._rows.pop(slot, None)
        if row is not None:
            self._rows[slot] = row  # the last one of the dictionary is the last one used
        return row

    def known(self, slots: NDArray[np.int64]) -> int:
        """How many of the tokens in ``slots`` (n,) stand before or at the last one whose state is kept."""
        if not self._rows:
            return 0
        if len(slots) and int(slots[-1]) in self._rows:
            return len(slots)
        own = slots.tolist()
        return next((end for end in range(len(own), 0, -1) if own[end - 1] in self._rows), 0)

    def hold(self, slots: Collection[int]) -> None:
        """Keep the states of these tokens until the next call: live sequences go on from there."""
        self._held = frozenset(slots)

    def begin_at(self, slot: int) -> None:
        """Keep a state as a snapshot even where it stands in the middle of a text: a request began there."""
        self._passing.discard(slot)

    def take(self, slots: Sequence[int], used: Collection[int] = (), *, passing: bool = False) -> list[int | None]:
        """Rows for the states after tokens in ``slots``, the first ones first; None where no row can be had.

        ``used``: rows that must not be given away. ``passing``: these are no snapshots.
        """
        kept = self._held.union(slots)
        garbage = [slot for slot in self._passing if slot not in kept and self._rows[slot] not in used]
        rows: list[int | None] = []
        for slot in slots:
            if slot in self._rows:
                rows.append(self._rows[slot])
                continue
            if not self._free and garbage:
                self.drop([garbage.pop()])
            if not self._free and self.capacity < self.limit:
                self._grow(len(slots))
            if not self._free:
                oldest = (slot for slot, row in self._rows.items() if slot not in kept and row not in used)
                self.drop([old] if (old := next(oldest, None)) is not None else ())
            row = self._free.pop() if self._free else None
            rows.append(row)
            if row is not None:
                self._rows[slot] = row
                if passing:
                    self._passing.add(slot)
        return rows

    def drop(self, slots: Iterable[int]) -> None:
        """Forget the states after tokens whose slots are freed."""
        for slot in slots:
            row = self._rows.pop(slot, None)
            if row is not None:
                self._free.append(row)
                self._passing.discard(slot)
            self._tokens.pop(slot, None)

    def move(self, old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        """The same tokens (n,) are stored elsewhere: their states are addressed by the new slots."""
        for source, target in zip(old.tolist(), new.tolist(), strict=True):
            if source in self._tokens:
                self._tokens[target] = self._tokens.pop(source)

    def await_verification(self, done: AwaitedPass, tokens: dict[int, int]) -> None:
        """A pass has computed ``tokens``, by slot; which of their states are needed :meth:`settle` will say."""
        self._pass, self._tokens = done, tokens

    def settle(self, slots: Sequence[int]) -> None:
        """Keep the states after accepted tokens of the last pass, those of live sequences first; forget the others."""
        ends = [slot for slot in dict.fromkeys(slots) if slot in self._tokens and slot not in self._rows]
        if self._pass is not None and ends:
            rows = self.take(ends, passing=True)
            pairs = [(self._tokens[slot], row) for slot, row in zip(ends, rows, strict=True) if row is not None]
            self._pass.settle(self, [token for token, _ in pairs], [row for _, row in pairs])
        self._pass, self._tokens = None, {}

    def _grow(self, more: int) -> None:
        size = min(self.limit, max(FIRST, self.capacity + more, int(self.capacity * GROWTH)))
        for parts in self.parts.values():
            for place, old in enumerate(parts):
                grown = old.new_zeros(size + 1, *old.shape[1:])
                grown[: len(old)] = old
                parts[place] = grown
        self._free += range(size, self.capacity, -1)
