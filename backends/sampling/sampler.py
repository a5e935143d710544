"""How a token is drawn: warped logits plus noise that is keyed by position and token.

A token is ``argmax(logits / temperature + g)`` over the ids that top-k, top-p and min-p leave (the Gumbel-max theorem:
that is a draw from the warped softmax). The noise g of a token is a pure function of (stream, position, token id), with
the stream from :meth:`treeagent.backend.Key.stream`: no state, no order, so neither batch composition nor speculation
can change a text. Coupled drafters share the same g (Daliri et al., arXiv 2408.07978).

The generator is Philox4x32-10 (Salmon et al., SC11): key = the stream, counter = (position, token id // 4, 0, purpose),
lane = token id % 4, purpose 0 for the tokens of a text. The third word of the counter, 0 for them, numbers
independent draws at one position. The uniform is (w + 1/2) * 2**-32 in float64; in float32 it could round to 1, and g
to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treeagent.errors import BackendError
from treeagent.request import Sampling

from .philox import CHUNK, GUMBEL_MAX, TEXT, Floats, Mask, Words, noise_of_blocks, philox

NEAR = 3.0
"""Ids within this many (logits / temperature) of the best one are tried first."""
SLACK = 1e-6
"""Added to the bounds of ids that cannot win, so that rounding never decides."""
SMALL = 4096
"""Up to this vocabulary size the noise of all ids is made; leaving ids out would take longer."""


MOST_BEAMS = 64
"""Upper limit of the beams of one completion."""

NOT_FINITE = (
    "the model returned logits that are not finite (nan, or no token is possible). Its weights may be damaged, or "
    "overflow in this dtype; try dtype=float32."
)


def check(sampling: Sampling) -> None:
    """Raise BackendError when a setting has no meaning, listing every fault."""
    faults = []
    if not (sampling.temperature >= 0 and math.isfinite(sampling.temperature)):
        faults.append(f"temperature must be 0 (greedy) or positive, not {sampling.temperature}")
    if sampling.top_k is not None and sampling.top_k < 1:
        faults.append(f"top_k must be at least 1, not {sampling.top_k}")
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        faults.append(f"top_p must be above 0 and at most 1, not {sampling.top_p}")
    if sampling.min_p is not None and not 0 <= sampling.min_p <= 1:
        faults.append(f"min_p must be between 0 and 1, not {sampling.min_p}")
    if sampling.max_tokens < 1:
        faults.append(f"max_tokens must be at least 1, not {sampling.max_tokens}")
    if not 1 <= sampling.num_beams <= MOST_BEAMS:
        faults.append(f"num_beams must be between 1 and {MOST_BEAMS}, not {sampling.num_beams}")
    if "" in sampling.stop:
        faults.append("a stop string must not be empty")
    if faults:
        raise BackendError("; ".join(faults))


def is_cut(sampling: Sampling) -> bool:
    """Whether top-k, top-p or min-p may leave tokens out, where the temperature is positive."""
    return sampling.top_k is not None or sampling.top_p is not None or sampling.min_p is not None


def survivors(logits: Floats, sampling: Sampling) -> Mask:
    """Mask (V,) of the ids of one row of logits (V,) that remain after top-k, top-p and min-p, in this order.

    The temperature must be positive. Of equal logits the lowest ids stay. At least one id is left.
    """
    keep = logits > -np.inf
    if sampling.top_k is not None and sampling.top_k < len(logits):
        least = _kth(logits, sampling.top_k)
        above = logits > least
        ties = np.flatnonzero(logits == least)[: sampling.top_k - int(above.sum())]
        above[ties] = True
        keep &= above
    scaled = (logits.astype(np.float64) - float(logits.max())) / sampling.temperature
    if sampling.top_p is not None and sampling.top_p < 1:
        mass = np.where(keep, np.exp(scaled), 0.0)
        enough = sampling.top_p * mass.sum()
        near = mass > 1e-4  # sorting a whole vocabulary costs more than all the rest; these few mostly suffice
        ids = np.flatnonzero(near if mass[near].sum() >= enough else keep)
        ids = ids[np.argsort(-mass[ids], kind="stable")]
        before = np.cumsum(mass[ids]) - mass[ids]  # mass of all better ids: the id that crosses top_p stays
        keep = np.zeros_like(keep)
        keep[ids[before < enough]] = True
    if sampling.min_p is not None and sampling.min_p > 0:
        keep &= scaled >= math.log(sampling.min_p)
    keep[int(logits.argmax())] = True  # rounding must not empty the set
    return keep


def _kth(logits: Floats, k: int) -> Any:
    """The k-th largest of (V,), sought among the values that reach the k-th largest maximum of the blocks."""
    size = len(logits) // 8
    if 4 * k < size:
        highest = logits[: 8 * size].reshape(8, size).max(axis=0)  # (size,)
        logits = logits[logits >= np.partition(highest, -k)[-k]]
    return np.partition(logits, -k)[-k]


def warp(logits: Floats, sampling: Sampling) -> NDArray[np.float64]:
    """One row of logits (V,) divided by the (positive) temperature, minus infinity where the warpers cut."""
    return np.where(survivors(logits, sampling), logits.astype(np.float64) / sampling.temperature, -np.inf)


def choose(logits: Floats, sampling: Sampling, stream: int, position: int) -> int:
    """The token id drawn from one row of logits (V,); see :func:`choose_rows`."""
    return int(choose_rows(logits[None], [sampling], [stream], [position])[0])


def choose_rows(
    logits: Floats,
    samplings: Sequence[Sampling],
    streams: Sequence[int],
    positions: Sequence[int],
    purpose: int = TEXT,
) -> NDArray[np.int64]:
    """The token id drawn from each row of ``logits`` (R, V), each row with its own settings, stream and position.

    Ties go to the lowest id. Raises BackendError when a row has no finite maximum (a broken model).
    """
    best: NDArray[np.int64] = logits.argmax(axis=1)  # (R,)
    top = logits[np.arange(len(logits)), best]  # (R,)
    if not np.isfinite(top).all():
        raise BackendError(NOT_FINITE)
    sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if sampled and logits.shape[1] <= SMALL:
        best[sampled] = _choose_small(
            logits[sampled],
            [samplings[row] for row in sampled],
            [streams[row] for row in sampled],
            [positions[row] for row in sampled],
            purpose,
        )
        return best
    draws = [_Draw(logits[row], samplings[row], streams[row], positions[row], purpose) for row in sampled]
    if draws:
        _try_near(draws, purpose)
        for draw in draws:
            draw.finish()
        best[sampled] = [draw.winner for draw in draws]
    return best


def _choose_small(
    logits: Floats, samplings: Sequence[Sampling], streams: Sequence[int], positions: Sequence[int], purpose: int
) -> NDArray[np.int64]:
    """:func:`choose_rows` for rows that are all sampled, with the noise of every id."""
    rows, size = logits.shape
    blocks = -(-size // 4)
    noise = noise_of_blocks(
        np.repeat(np.array(streams, dtype=np.uint64), blocks),
        np.repeat(np.array(positions, dtype=np.uint32), blocks),
        np.tile(np.arange(blocks, dtype=np.uint32), rows),
        purpose,
    ).reshape(rows, 4 * blocks)[:, :size]
    scores = logits / np.array([[sampling.temperature] for sampling in samplings], dtype=np.float64)
    for row, sampling in enumerate(samplings):
        if is_cut(sampling):
            scores[row, ~survivors(logits[row], sampling)] = -np.inf
    chosen: NDArray[np.int64] = (scores + noise).argmax(axis=1)
    return chosen


class _Draw:
    """argmax(logits / temperature + g) over the mask of one row (V,); ids that cannot win get no noise.

    The ids near the maximum are tried first. Of the others only those whose random word is above a bound can exceed
    the best score so far, and the noise is computed for these few only.
    """

    def __init__(self, logits: Floats, sampling: Sampling, stream: int, position: int, purpose: int) -> None:
        if is_cut(sampling):
            logits = np.where(survivors(logits, sampling), logits, -np.inf)
        self.logits, self.temperature = logits, np.float64(sampling.temperature)
        self.stream, self.position, self.purpose = stream, position, purpose
        self.edge = float(logits.max()) - NEAR * sampling.temperature
        self.near = np.flatnonzero(logits >= self.edge)
        self.winner, self.score = -1, -math.inf

    def take(self, ids: NDArray[np.int64], noise: NDArray[np.float64]) -> None:
        """Try ids (N,), ascending, with their noise (N,); of equal scores the lowest id wins."""
        scores = self.logits[ids].astype(np.float64) / self.temperature + noise
        at = int(scores.argmax())
        if (scores[at], -ids[at]) > (self.score, -self.winner):
            self.winner, self.score = int(ids[at]), float(scores[at])

    def finish(self) -> None:
        """Try the other ids whose noise could make them win."""
        bound = self.temperature * (self.score - GUMBEL_MAX) - SLACK
        if np.count_nonzero(self.logits >= bound) == len(self.near):
            return
        logits = self.logits
        if len(logits) % 4:
            logits = np.append(logits, np.full(-len(logits) % 4, -np.inf, logits.dtype))
        lanes = logits.reshape(-1, 4)
        hopeful = lanes >= bound
        blocks = np.flatnonzero(hopeful.view(np.uint32)[:, 0])  # four booleans at once
        # The least uniform number with which an id below the edge could win, as a word.
        lucky = np.uint32(
            max(0.0, math.exp(-math.exp(SLACK - self.score + self.edge / self.temperature)) * 2.0**32 - 2)
        )
        for start in range(0, len(blocks), CHUNK):
            part = blocks[start : start + CHUNK]
            for lane, word in enumerate(self._words(part)):
                if len(found := np.flatnonzero(word >= lucky)):
                    ids = 4 * part[found] + lane
                    inside = ids < len(self.logits)
                    if inside.any():
                        self.take(ids[inside], _gumbel(word[found][inside]))

    def _words(self, blocks: NDArray[np.int64]) -> list[Words]:
        """The four random words (N,) of each block (N,)."""
        zero = np.zeros(1, dtype=np.uint32)  # what is the same for all blocks is broadcast
        key = (zero + np.uint32(self.stream & 0xFFFFFFFF), zero + np.uint32(self.stream >> 32))
        counter = (zero + np.uint32(self.position), blocks.astype(np.uint32), zero, zero + np.uint32(self.purpose))
        return philox(counter, key)


def _try_near(draws: Sequence[_Draw], purpose: int) -> None:
    """The ids near the maximum of each row."""
    counts = [len(draw.near) for draw in draws]
    ids = np.concatenate([draw.near for draw in draws])
    streams = np.repeat(np.array([draw.stream for draw in draws], dtype=np.uint64), counts)
    positions = np.repeat(np.array([draw.position for draw in draws], dtype=np.uint32), counts)
    noise = noise_of_blocks(streams, positions, (ids // 4).astype(np.uint32), purpose)[np.arange(len(ids)), ids % 4]
    for draw, own in zip(draws, np.split(noise, np.cumsum(counts)[:-1]), strict=True):
        draw.take(draw.near, own)


def _gumbel(words: Words) -> NDArray[np.float64]:
    """Standard Gumbel noise of random words."""
    noise: NDArray[np.float64] = -np.log(-np.log((words.astype(np.float64) + 0.5) * 2.0**-32))
    return noise
