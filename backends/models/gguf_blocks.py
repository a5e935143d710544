"""The block types of GGUF files as integers with scales; the layouts are those of llama.cpp's ``ggml-common.h``.

T blocks of a file become integers (T, inputs) in int8, scales (T, n) and lowest values (T, n), or None. Their numbers
are those that the library gguf expands them to, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Parts = tuple[NDArray[np.int8], Floats, Floats | None]

SUPER = 256
"""Inputs of a block of the K types, which has 8 or 16 parts with scales of their own."""


def _halves(columns: Bytes) -> Floats:
    """Numbers in float16 (T, n) of bytes (T, 2 n)."""
    return np.ascontiguousarray(columns).view(np.float16).astype(np.float32)


def _nibbles(columns: Bytes, run: int) -> Bytes:
    """4-bit numbers (T, 2 n) of bytes (T, n): of every ``run`` bytes the lower halves, then the upper ones."""
    parts = columns.reshape(len(columns), -1, 1, run) >> np.array([0, 4], dtype=np.uint8)[:, None]
    numbers: Bytes = (parts & np.uint8(15)).reshape(len(columns), -1)
    return numbers


def _fifth_bits(columns: Bytes) -> Bytes:
    """Bits (T, 32) of 32 numbers, from 4 bytes each, in place for a fifth bit."""
    bits: Bytes = np.unpackbits(columns, axis=1, bitorder="little") << np.uint8(4)
    return bits


def _q8_0(blocks: Bytes) -> Parts:
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8), _halves(blocks[:, :2]), None


def _q4_0(blocks: Bytes) -> Parts:
    return _nibbles(blocks[:, 2:], 16).astype(np.int8) - np.int8(8), _halves(blocks[:, :2]), None


def _q4_1(blocks: Bytes) -> Parts:
    return _nibbles(blocks[:, 4:], 16).astype(np.int8), _halves(blocks[:, :2]), _halves(blocks[:, 2:4])


def _q5_0(blocks: Bytes) -> Parts:
    integers = (_nibbles(blocks[:, 6:], 16) | _fifth_bits(blocks[:, 2:6])).astype(np.int8) - np.int8(16)
    return integers, _halves(blocks[:, :2]), None


def _q5_1(blocks: Bytes) -> Parts:
    integers = (_nibbles(blocks[:, 8:], 16) | _fifth_bits(blocks[:, 4:8])).astype(np.int8)
    return integers, _halves(blocks[:, :2]), _halves(blocks[:, 2:4])


def _sixes(columns: Bytes) -> tuple[Bytes, Bytes]:
    """The 6-bit scales and lowest values (T, 8) of 8 parts, from 12 bytes each."""
    first, second, third = (columns[:, start : start + 4] for start in (0, 4, 8))
    scales = np.concatenate((first & 63, (third & 15) | (first >> 6 << 4)), axis=1)
    return scales, np.concatenate((second & 63, (third >> 4) | (second >> 6 << 4)), axis=1)


def _scaled(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and lowest values (T, 8) of Q4_K and Q5_K."""
    scales, lowest = _sixes(blocks[:, 4:16])
    return _halves(blocks[:, :2]) * scales, -(_halves(blocks[:, 2:4]) * lowest)


def _q4_k(blocks: Bytes) -> Parts:
    return _nibbles(blocks[:, 16:], 32).astype(np.int8), *_scaled(blocks)


def _q5_k(blocks: Bytes) -> Parts:
    bits = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]  # (T, 8, 32)
    integers = _nibbles(blocks[:, 48:], 32) | ((bits & 1) << 4).reshape(len(blocks), SUPER)
    return integers.astype(np.int8), *_scaled(blocks)


def _q6_k(blocks: Bytes) -> Parts:
    pairs = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    integers = _nibbles(blocks[:, :128], 64) | ((pairs & 3) << 4).reshape(len(blocks), SUPER)
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return integers.astype(np.int8) - np.int8(32), _halves(blocks[:, 208:]) * scales, None


KINDS: dict[str, Callable[[Bytes], Parts]] = {
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q4_K": _q4_k, "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}  # fmt: skip
"""By the names of the library gguf."""


def split(kind: str, data: Bytes, block_bytes: int) -> tuple[Any, Any, Any]:
    """Integers (out, in), scales (out, n) and lowest values (out, n) or None, of a tensor's bytes (out, bytes)."""
    rows = len(data)
    integers, scales, lowest = KINDS[kind](data.reshape(-1, block_bytes))
    return integers.reshape(rows, -1), scales.reshape(rows, -1), None if lowest is None else lowest.reshape(rows, -1)
