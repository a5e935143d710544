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

from ...kernels import library
from ...records import Draft, SequenceState
from .best_first import BREADTH, BestFirstDrafter
from .ngram import TAIL, NgramDrafter

_POINTER, _INT, _LONG, _REAL = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ngram_open": (_POINTER, _LONG),
    "ngram_close": (None, _POINTER),
    "ngram_contexts": (_LONG, _POINTER),
    "ngram_warm": (_INT, _POINTER, _POINTER, _LONG),
    "ngram_join": (_POINTER, _POINTER, _POINTER, _LONG, _LONG, _INT, ctypes.c_uint64),
    "ngram_forget": (None, _POINTER),
    "ngram_observe": (_INT, _POINTER, _POINTER, _INT, _LONG),
    "ngram_draft": (_INT, _POINTER, _REAL, _INT, _LONG, _POINTER, _POINTER, _POINTER),
}
"""What the functions of ``ngram.c`` return and take."""


class CompiledNgramDrafter(BestFirstDrafter):
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
        self._room = 0
        self._table = self._open()

    def __len__(self) -> int:
        """How many contexts are held."""
        return int(self._kernels.ngram_contexts(self._table))

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a new sequence whole; compare every further token with its guess, then learn it."""
        sequence = self._sequences.get(row)
        if sequence is not None:
            tokens = array("i", row.tokens[start:])
            address, count = tokens.buffer_info()
            if self._kernels.ngram_observe(sequence, address, count, start - row.prompt) < 0:
                raise MemoryError("an n-gram table cannot grow")
            return
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

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """See :class:`BestFirstDrafter`; empty for a sequence that was not observed."""
        sequence = self._sequences.get(row)
        if sequence is None:
            return Draft()
        if self._room < BREADTH * depth:
            self._room = BREADTH * depth
            self._tokens, self._parents = (_INT * self._room)(), (_INT * self._room)()
            self._confidence = (_REAL * self._room)()
        count = self._kernels.ngram_draft(
            sequence, floor, depth, row.position, self._tokens, self._parents, self._confidence
        )
        if count < 0:
            raise MemoryError("a draft has no memory")
        return Draft(self._tokens[:count], self._parents[:count], self._confidence[:count])


def ngram_drafter() -> BestFirstDrafter:
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
