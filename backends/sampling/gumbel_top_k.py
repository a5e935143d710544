"""Several draws without replacement for each of many rows (Gumbel-Top-k, Kool et al., arXiv 1903.06059).

Draft trees of all branches grow level by level, and one call here draws for all nodes of a level: that takes a few
NumPy calls a level instead of a few dozen a node. Scores and noise equal those of :mod:`.sampler` bit for bit.
Shapes: R rows, V ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from treeagent.request import Sampling

from .philox import CHUNK, GUMBEL_MAX, TEXT, Floats, Words, noise_of_blocks
from .sampler import SLACK, survivors

MANY = 4096
"""From this vocabulary size on, ids that no noise can bring among the best are left out first."""
TRIED = 64
"""Number of best ids whose noise gives the bound that the others must reach."""


def warp_rows(logits: Floats, samplings: Sequence[Sampling]) -> NDArray[np.float64]:
    """Logits (R, V) divided by their temperatures, minus infinity where warpers cut; unchanged at temperature 0."""
    temperatures = np.array([sampling.temperature or 1.0 for sampling in samplings])
    scores: NDArray[np.float64] = logits.astype(np.float64) / temperatures[:, None]
    for row, sampling in enumerate(samplings):
        cut = sampling.top_k is not None or sampling.top_p is not None or sampling.min_p is not None
        if cut and sampling.temperature:
            scores[row, ~survivors(logits[row], sampling)] = -np.inf
    return scores


def softmax_rows(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (R, V) of scores (R, V), some of which may be minus infinity."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    laws: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return laws


def top_draws_rows(
    scores: NDArray[np.float64],
    sampled: Sequence[bool],
    streams: Sequence[int],
    positions: Sequence[int],
    count: int,
    purpose: int = TEXT,
    draws: Sequence[int] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ids with the largest ``scores + g`` of each row of warped scores (R, V), and these sums: (R, count), sorted.

    They are ``count`` draws without replacement, in their order; the first is the token of
    :func:`.sampler.choose`. Of equal sums the lowest id comes first. Where fewer ids are possible, the row ends with
    ids -1 and sums of minus infinity. Rows that are not ``sampled`` have no noise. ``draws`` (R,) numbers independent
    draws at one position.
    """
    keys = _keys(streams, positions, draws)
    noisy = np.array(sampled, dtype=bool)
    if scores.shape[1] > max(MANY, TRIED, count):
        scores = _hopeful(scores, noisy, keys, count, purpose)
    return _best(_perturbed(scores, noisy, keys, purpose), count)


def top_draws_among(
    scores: NDArray[np.float64],
    ids: NDArray[np.int64],
    sampled: Sequence[bool],
    streams: Sequence[int],
    positions: Sequence[int],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As :func:`top_draws_rows`, where of each row only the K ``ids`` with these ``scores`` (R, K) are possible."""
    keys, noisy = _keys(streams, positions), np.array(sampled, dtype=bool)
    perturbed = scores.copy()
    rows = np.repeat(np.flatnonzero(noisy), ids.shape[1])
    perturbed[noisy] += _sparse(keys[:, rows], ids[noisy].ravel(), TEXT).reshape(-1, ids.shape[1])
    places, sums = _best(perturbed, count)
    return np.where(places < 0, -1, np.take_along_axis(ids, np.maximum(places, 0), axis=1)), sums


def _keys(streams: Sequence[int], positions: Sequence[int], draws: Sequence[int] | None = None) -> NDArray[np.uint64]:
    """(3, R): rows with equal ones share their noise."""
    numbers = [0] * len(streams) if draws is None else draws
    return np.array((streams, positions, numbers), dtype=np.uint64)


def _hopeful(
    scores: NDArray[np.float64], noisy: NDArray[np.bool_], keys: NDArray[np.uint64], count: int, purpose: int
) -> NDArray[np.float64]:
    """Scores (R, V) with minus infinity where no noise can bring them among the best."""
    few = max(count, TRIED)
    best = np.argpartition(scores, -few, axis=1)[:, -few:]  # (R, few)
    rows = np.repeat(np.arange(len(scores)), few)
    noise = _sparse(keys[:, rows], best.ravel(), purpose).reshape(best.shape) * noisy[:, None]
    tried = np.take_along_axis(scores, best, axis=1) + noise
    least = np.partition(tried, -count, axis=1)[:, -count]
    return np.where(scores >= (least - GUMBEL_MAX - SLACK)[:, None], scores, -np.inf)


def _perturbed(
    scores: NDArray[np.float64], noisy: NDArray[np.bool_], keys: NDArray[np.uint64], purpose: int
) -> NDArray[np.float64]:
    """Scores (R, V) plus noise, made for all ids or for the possible ids only, whichever needs fewer random words."""
    if not noisy.any():
        return scores
    distinct, which = np.unique(keys[:, noisy], axis=1, return_inverse=True)
    which = which.reshape(-1)  # NumPy 2.0 gave it another shape
    perturbed: NDArray[np.float64] = scores.copy()
    size = scores.shape[1]
    rows, ids = np.nonzero((scores > -np.inf) & noisy[:, None])
    if len(ids) > distinct.shape[1] * -(-size // 4):
        perturbed[noisy] += _dense(distinct, size, purpose)[which]
    else:
        perturbed[rows, ids] += _sparse(keys[:, rows], ids, purpose)
    return perturbed


def _sparse(keys: NDArray[np.uint64], ids: NDArray[np.int64], purpose: int) -> NDArray[np.float64]:
    """Noise (N,) of single ids (N,) with keys (3, N)."""
    blocks = _blocks(keys, (ids // 4).astype(np.uint32), purpose)
    noise: NDArray[np.float64] = blocks[np.arange(len(ids)), ids % 4]
    return noise


def _dense(keys: NDArray[np.uint64], size: int, purpose: int) -> NDArray[np.float64]:
    """Noise (K, V) of all ids for keys (3, K)."""
    blocks = -(-size // 4)
    everything = np.tile(np.arange(blocks, dtype=np.uint32), keys.shape[1])
    noise = _blocks(np.repeat(keys, blocks, axis=1), everything, purpose)
    whole: NDArray[np.float64] = noise.reshape(keys.shape[1], 4 * blocks)
    return whole[:, :size]


def _blocks(keys: NDArray[np.uint64], blocks: Words, purpose: int) -> NDArray[np.float64]:
    """Noise (N, 4) of blocks of four ids (N,) with keys (3, N), a part at a time so that it stays in the cache."""
    noise = np.empty((len(blocks), 4))
    streams, positions, draws = keys[0], keys[1].astype(np.uint32), keys[2].astype(np.uint32)
    for start in range(0, len(blocks), CHUNK):
        part = slice(start, start + CHUNK)
        noise[part] = noise_of_blocks(streams[part], positions[part], blocks[part], purpose, draws[part])
    return noise


def _best(scores: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids and values of the largest scores of each row (R, V): (R, count), sorted; of equal ones the lowest ids."""
    least = np.full(len(scores), -np.inf)
    size = scores.shape[1] // 8
    if 4 * count < size:  # only what reaches the k-th largest of the maxima of blocks can be among the k largest
        highest = scores[:, : 8 * size].reshape(-1, 8, size).max(axis=1)
        least = np.partition(highest, -count, axis=1)[:, -count]
    elif count < scores.shape[1]:
        least = np.partition(scores, -count, axis=1)[:, -count]
    rows, ids = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
    found = scores[rows, ids]
    order = np.lexsort((ids, -found, rows))
    rows, ids, found = rows[order], ids[order], found[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = rank < count
    at = rows[kept], rank[kept]
    best, sums = np.full((len(scores), count), -1, dtype=np.int64), np.full((len(scores), count), -np.inf)
    best[at], sums[at] = ids[kept], found[kept]
    return best, sums
