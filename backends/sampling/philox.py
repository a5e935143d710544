"""Counter-based random numbers (Philox, Salmon et al., SC 2011) and the Gumbel noise made of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]


Mask: TypeAlias = NDArray[np.bool_]


Words: TypeAlias = NDArray[np.uint32]


TEXT, DRAFT, ACCEPTANCE, RESIDUAL = range(4)
"""Purposes of random numbers at one position: the text itself, which coupled drafts share; an independent draft;
acceptance (uniform numbers) and the last draw of rejection sampling."""


PURPOSES = 4
"""Each level of a draft has a purpose of its own: DRAFT plus a multiple of this."""


ROUNDS = 10


_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)  # which half of a 64-bit word comes first


_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))


_WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))


GUMBEL_MAX = -math.log(-math.log1p(-(2.0**-33)))
"""The largest noise that 32 bits can give, 22.87."""


CHUNK = 8192
"""Blocks of four ids whose random words are made in one call; so many stay in the processor's cache."""


def philox(counter: Sequence[Words], key: Sequence[Words]) -> list[Words]:
    """Philox4x32-10 of N counters: from four arrays (N,) of counter words and two of key words, four arrays (N,)."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(ROUNDS):
        first = np.multiply(a, _MULTIPLIERS[0], dtype=np.uint64).view(np.uint32)  # (2N,) low and high halves in turn
        second = np.multiply(c, _MULTIPLIERS[1], dtype=np.uint64).view(np.uint32)
        a, b, c, d = second[_HIGH::2] ^ b ^ k, second[_LOW::2], first[_HIGH::2] ^ d ^ m, first[_LOW::2]
        k, m = k + _WEYL[0], m + _WEYL[1]  # modulo 2**32
    return [a, b, c, d]


def uniforms(
    streams: NDArray[np.uint64], positions: Words, blocks: Words, purpose: int = TEXT, draw: int | Words = 0
) -> NDArray[np.float64]:
    """Uniform numbers, never 0 or 1, of the token ids 4*block .. 4*block+3; all arrays (N,), result (N, 4)."""
    zero = np.zeros(len(blocks), dtype=np.uint32)
    key = ((streams & np.uint64(0xFFFFFFFF)).astype(np.uint32), (streams >> np.uint64(32)).astype(np.uint32))
    words = np.stack(philox((positions, blocks, zero + np.uint32(draw), zero + np.uint32(purpose)), key), axis=1)
    numbers: NDArray[np.float64] = (words.astype(np.float64) + 0.5) * 2.0**-32
    return numbers


def noise_of_blocks(
    streams: NDArray[np.uint64], positions: Words, blocks: Words, purpose: int = TEXT, draw: int | Words = 0
) -> NDArray[np.float64]:
    """Standard Gumbel noise of the token ids 4*block .. 4*block+3; all arrays (N,), result (N, 4)."""
    return -np.log(-np.log(uniforms(streams, positions, blocks, purpose, draw)))


def gumbel(
    stream: int, position: int, ids: NDArray[np.int64], purpose: int = TEXT, draw: int = 0
) -> NDArray[np.float64]:
    """Standard Gumbel noise of the given token ids (N,) at one position of one stream, (N,).

    Different ``draw`` numbers give independent noise for several draws at one position.
    """
    blocks, which = np.unique(ids // 4, return_inverse=True)
    streams = np.full(len(blocks), stream, dtype=np.uint64)
    positions = np.full(len(blocks), position, dtype=np.uint32)
    noise: NDArray[np.float64] = noise_of_blocks(streams, positions, blocks.astype(np.uint32), purpose, draw)[
        which, ids % 4
    ]
    return noise


def gumbel_rows(streams: Sequence[int], position: int, count: int, purpose: int, draw: int) -> NDArray[np.float64]:
    """The noise of :func:`gumbel` for the ids 0 .. count - 1 and each of the streams (S,); (S, count)."""
    blocks = -(-count // 4)
    everyone = np.repeat(np.array(streams, dtype=np.uint64), blocks)
    which = np.tile(np.arange(blocks, dtype=np.uint32), len(streams))
    noise = noise_of_blocks(everyone, np.full(len(which), position, dtype=np.uint32), which, purpose, draw)
    return noise.reshape(len(streams), 4 * blocks)[:, :count]
