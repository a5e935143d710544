"""The n-gram drafter in C: the drafts of :mod:`.ngram`, number for number, in a fifth of its time.

Where passes are short (a small model, few branches), Python's time for a draft is more than the pass that it saves.
"""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from ...draft_arrays import DraftArrays
from ...kernels import library
from ...records import SequenceState
from ..base import Drafter
from .best_first import BREADTH, LEAST_FLOOR
from .ngram import TAIL, NgramDrafter

_POINTER, _INT, _LONG, _REAL = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ngram_open": (_POINTER, _LONG),
    "ngram_close": (None, _POINTER),
    "ngram_contexts": (_LONG, _POINTER),
    "ngram_warm": (_INT, _POINTER, _POINTER, _LONG),
    "ngram_join": (_POINTER, _POINTER, _POINTER, _LONG, _LONG, _INT, ctypes.c_uint64),
    "ngram_forget": (None, _POINTER),
    "ngram_observe_all": (_INT, _INT, *(_POINTER,) * 4),
    "ngram_draft_all": (_INT, _INT, _POINTER, _REAL, *(_POINTER,) * 6),
}
"""What the functions of ``ngram.c`` return and take."""


class CompiledNgramDrafter(Drafter):
    """As :class:`NgramDrafter`; a context takes 112 bytes.

    A live sequence takes 25 kB for drafts of 16 levels, and up to 224 bytes for each distinct token of its own.
    Raises MemoryError where the tables cannot grow.
    """

    name = "ngram"

    def __init__(self, kernels: ctypes.CDLL, contexts: int = 1 << 17) -> None:
        """``contexts`` as for :class:`NgramDrafter`."""
        self.contexts = contexts
        self._kernels = _functions(kernels)
        self._sequences: dict[SequenceState, int] = {}
        self._room = 0  # nodes that the arrays for drafts hold
        self._tokens, self._parents, self._confidences = array("i"), array("i"), array("d")
        self._table = self._open()

    def __len__(self) -> int:
        """How many contexts are held."""
        return int(self._kernels.ngram_contexts(self._table))

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a new sequence whole; compare every further token with its guess, then learn it."""
        self.observe_all([(row, start)])

    def observe_all(self, fresh: Sequence[tuple[SequenceState, int]]) -> None:
        """See :class:`Drafter`."""
        sequences, counts, positions, tokens = array("Q"), array("i"), array("q"), array("i")
        known = self._sequences
        for row, start in fresh:
            sequence = known.get(row)
            if sequence is None:
                self._join(row)
                continue
            new = row.tokens[start:]
            sequences.append(sequence)
            counts.append(len(new))
            positions.append(start - row.prompt)
            tokens.extend(new)
        parts = (part.buffer_info()[0] for part in (sequences, counts, positions, tokens))
        if sequences and self._kernels.ngram_observe_all(len(counts), *parts) < 0:
            raise MemoryError("an n-gram table cannot grow")

    def _join(self, row: SequenceState) -> None:
        tokens = array("i", row.tokens)
        address, count = tokens.buffer_info()
        sampled = row.sampling.temperature > 0
        self._sequences[row] = _made(
            self._kernels.ngram_join(self._table, address, count, row.prompt - TAIL, sampled, row.stream)
        )

    def warm(self, tokens: Sequence[int]) -> bool:
        """See :class:`Drafter`."""
        text = array("i", tokens)
        if self._kernels.ngram_warm(self._table, *text.buffer_info()) < 0:
            raise MemoryError("an n-gram table cannot grow")
        return True

    def forget(self, row: SequenceState) -> None:
        """Drop the sequence's own evidence; what all sequences share stays."""
        sequence = self._sequences.pop(row, None)
        if sequence is not None:
            self._kernels.ngram_forget(sequence)

    def close(self) -> None:
        """Drop all evidence."""
        self._free()
        self._sequences.clear()
        self._table = self._open()

    def _open(self) -> int:
        table = _made(self._kernels.ngram_open(self.contexts))
        self._free = weakref.finalize(self, self._kernels.ngram_close, table)
        return table

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> DraftArrays:
        """See :class:`Drafter`; a draft is empty for a sequence that was not observed."""
        if floor >= 1:
            return DraftArrays.empty(len(rows))
        sequences, depths, positions = array("Q"), array("i"), array("q")
        known = self._sequences
        for row in rows:
            position = row.position
            sequences.append(known.get(row, 0))
            depths.append(min(depth, row.limit - position - 1))
            positions.append(position)
        room = len(rows) * max(0, BREADTH * depth)
        if self._room < room:
            self._room = room
            self._tokens, self._parents = array("i", bytes(4 * room)), array("i", bytes(4 * room))
            self._confidences = array("d", bytes(8 * room))
        sizes = array("i", bytes(4 * len(rows)))
        count = self._kernels.ngram_draft_all(
            len(rows),
            sequences.buffer_info()[0],
            max(floor, LEAST_FLOOR),
            depths.buffer_info()[0],
            positions.buffer_info()[0],
            sizes.buffer_info()[0],
            self._tokens.buffer_info()[0],
            self._parents.buffer_info()[0],
            self._confidences.buffer_info()[0],
        )
        if count < 0:
            raise MemoryError("a draft has no memory")
        return DraftArrays(sizes, self._tokens[:count], self._parents[:count], self._confidences[:count])


def ngram_drafter() -> Drafter:
    """The drafter in C, or in Python where the kernels cannot be used."""
    try:
        return CompiledNgramDrafter(library.load())
    except library.NoKernels:
        return NgramDrafter()


@cache
def _functions(kernels: ctypes.CDLL) -> SimpleNamespace:
    """The functions of ``ngram.c``."""
    return SimpleNamespace(**{name: library.function(kernels, name, *types) for name, types in SIGNATURES.items()})


def _made(pointer: int | None) -> int:
    if pointer is None:
        raise MemoryError("there is no memory for an n-gram table")
    return pointer
