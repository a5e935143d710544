"""The token of every row of logits in one launch: the cuts, the keyed noise and the choice, as the host computes them.

A token is ``argmax(logits / temperature + g)`` over what top-k, top-p and min-p leave, with the noise g of
:mod:`treeagent.backends.sampling.philox`: Philox4x32-10 (Salmon et al., SC 2011) is integer arithmetic, so its words
are the same bits here and there; the rest is float64, in the host's order. Only the logarithm and the exponential of
a GPU may differ from the host's in the last bit.

The cuts need no sorting: the least logit that stays is sought by halving the interval of the integers that order
floats, 33 times, with a count (top-k) or a sum of masses (top-p) over the row each time. Of equal logits the lowest ids
stay. A program has one row.

R rows, V ids of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from treeagent.request import Sampling

from ...sampling.philox import TEXT
from .transfers import send_arrays

BLOCK = 1024
"""Ids that are read at a time."""
LOWEST = tl.constexpr(-(2**31))
"""Below the integer of any float."""


def choose_tokens(
    logits: torch.Tensor,
    samplings: Sequence[Sampling],
    streams: Sequence[int],
    positions: Sequence[int],
    purpose: int = TEXT,
    block: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The id drawn from each row of ``logits`` (R, V), in float32 or narrower, and its score: (R,) each, on the device.

    Like :func:`treeagent.backends.sampling.sampler.choose_rows`, but -1 where a row has no finite maximum. The score
    is the logit over the temperature plus the noise, in float64; the logit where the temperature is 0.
    """
    rows, size = logits.shape
    settings = np.empty((rows, 6), dtype=np.int64)
    for row, (sampling, stream, position) in enumerate(zip(samplings, streams, positions, strict=True)):
        top_p = 1.0 if sampling.top_p is None else sampling.top_p
        least = -math.inf if not sampling.min_p else math.log(sampling.min_p)
        top_k = size if sampling.top_k is None else min(size, sampling.top_k)
        settings[row, :3].view(np.float64)[:] = sampling.temperature, top_p, least
        settings[row, 3:] = top_k, stream - (1 << 64) if stream >> 63 else stream, position
    device = logits.device
    [sent] = send_arrays([settings], device)
    chosen = torch.empty(rows, dtype=torch.int64, device=device)
    scores = torch.empty(rows, dtype=torch.float64, device=device)
    with torch.cuda.device(logits.get_device()):  # Triton takes the current device; -1 changes nothing
        _choose[(rows,)](
            logits,
            (logits.stride(0), size),
            sent,
            chosen,
            scores,
            purpose,
            block,
        )
    return chosen, scores


@triton.jit
def _order(value):  # type: ignore[no-untyped-def]
    """Integers in the order of float32 numbers; both zeros have the same."""
    bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit  # type: ignore[untyped-decorator]
def _read(logits, start, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Ids, their logits in float32 and the integers that order them; minus infinity past the end."""
    ids = start + tl.arange(0, block)
    value = tl.load(logits + ids, mask=ids < size, other=float("-inf")).to(tl.float32)
    return ids, value, _order(value)


@triton.jit
def _stays(ids, order, least, end):  # type: ignore[no-untyped-def]
    """What is above a cut, and of what is equal to it the ids below ``end``."""
    return (order > least) | ((order == least) & (ids < end))


@triton.jit  # type: ignore[untyped-decorator]
def _noise(ids, stream, position, purpose: tl.constexpr):  # type: ignore[no-untyped-def]
    """Standard Gumbel noise of token ids, in float64."""
    zero = ids * 0
    a, b, c, d = tl.philox(stream, zero + position.to(tl.int32), ids // 4, zero, zero + purpose)
    lane = ids % 4
    word = tl.where(lane == 0, a, tl.where(lane == 1, b, tl.where(lane == 2, c, d)))
    return -tl.log(-tl.log((word.to(tl.float64) + 0.5) * 2.3283064365386963e-10))  # 2**-32


@triton.jit  # type: ignore[untyped-decorator]
def _cut_count(logits, size, highest, most, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The cut that leaves ``most`` ids: the integer of the least logit, and the end of those equal to it that stay."""
    low, high = LOWEST + highest * 0, highest + 1  # so many stay at ``low``, fewer at ``high``
    for _ in range(33):
        middle = (low + high) >> 1
        count = tl.full((), 0, tl.int32)
        for start in range(0, size, block):
            ids, _value, order = _read(logits, start, size, block)
            count += tl.sum(((order >= middle) & (ids < size)).to(tl.int32), 0)
        low = tl.where(count >= most, middle, low)
        high = tl.where(count >= most, high, middle)
    above = tl.full((), 0, tl.int32)
    for start in range(0, size, block):
        ids, _value, order = _read(logits, start, size, block)
        above += tl.sum(((order > low) & (ids < size)).to(tl.int32), 0)
    end, before = size, above
    for start in range(0, size, block):
        ids, _value, order = _read(logits, start, size, block)
        equal = ((order == low) & (ids < size)).to(tl.int32)
        last = (equal > 0) & (before + tl.cumsum(equal, 0) == most)
        end = tl.minimum(end, tl.min(tl.where(last, ids + 1, size), 0))
        before += tl.sum(equal, 0)
    return low, end


@triton.jit  # type: ignore[untyped-decorator]
def _mass(logits, size, top, temperature, least, end, above, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum of the masses, exp((logit - top) / temperature), of what stays and is above an integer."""
    total = tl.full((), 0.0, tl.float64)
    for start in range(0, size, block):
        ids, value, order = _read(logits, start, size, block)
        mass = tl.exp((value.to(tl.float64) - top) / temperature)
        total += tl.sum(tl.where(_stays(ids, order, least, end) & (order > above), mass, 0.0), 0)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def _cut_mass(logits, size, best, temperature, top_p, cut, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The cut that leaves a share of the mass: an id stays if the mass of all better ones is below the share."""
    top, highest = best
    low, high = LOWEST + highest * 0, highest  # at ``low`` the better ones have too much mass
    enough = top_p * _mass(logits, size, top, temperature, cut[0], cut[1], low, block)
    for _ in range(33):
        middle = (low + high) >> 1
        fits = _mass(logits, size, top, temperature, cut[0], cut[1], middle, block) < enough
        high = tl.where(fits & (middle < high), middle, high)
        low = tl.where(fits, low, middle)
    before = _mass(logits, size, top, temperature, cut[0], cut[1], high, block)
    end, count = 0, tl.full((), 0, tl.int32)
    for start in range(0, size, block):
        ids, value, order = _read(logits, start, size, block)
        equal = (_stays(ids, order, cut[0], cut[1]) & (order == high)).to(tl.int32)
        place = (count + tl.cumsum(equal, 0) - equal).to(tl.float64)
        fits = before + place * tl.exp((value.to(tl.float64) - top) / temperature) < enough
        end = tl.maximum(end, tl.max(tl.where((equal > 0) & fits, ids + 1, 0), 0))
        count += tl.sum(equal, 0)
    return high, end


@triton.jit  # type: ignore[untyped-decorator]
def _choose(logits, sizes, settings, chosen, scores, purpose: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row."""
    row = tl.program_id(0)
    size = sizes[1]
    logits += row.to(tl.int64) * sizes[0]
    settings += 6 * row
    temperature = tl.load(settings).to(tl.float64, bitcast=True)
    top_p = tl.load(settings + 1).to(tl.float64, bitcast=True)
    min_p = tl.load(settings + 2).to(tl.float64, bitcast=True)
    most, stream, position = tl.load(settings + 3), tl.load(settings + 4), tl.load(settings + 5)
    best, top, strange = tl.full((), 0, tl.int32), tl.full((), float("-inf"), tl.float32), tl.full((), 0, tl.int32)
    for start in range(0, size, block):
        ids, value, _order_of = _read(logits, start, size, block)
        strange += tl.sum((value != value).to(tl.int32), 0)  # noqa: PLR0124  # NaN
        high = tl.max(value, 0)
        at = tl.min(tl.where(value == high, ids, size), 0)
        best, top = tl.where(high > top, at, best), tl.maximum(top, high)
    strange += (tl.abs(top) == float("inf")).to(tl.int32)
    score = top.to(tl.float64)
    if (temperature > 0) & (strange == 0):
        highest, wide = _order(top), top.to(tl.float64)
        least, end = LOWEST + highest * 0, size
        if most < size:
            least, end = _cut_count(logits, size, highest, most, block)
        if top_p < 1:
            least, end = _cut_mass(logits, size, (wide, highest), temperature, top_p, (least, end), block)
        winner, score = best, tl.full((), float("-inf"), tl.float64)
        for start in range(0, size, block):
            ids, value, order = _read(logits, start, size, block)
            stays = _stays(ids, order, least, end) & ((value.to(tl.float64) - wide) / temperature >= min_p)
            stays = (stays & (value > float("-inf"))) | (ids == best)
            found = value.to(tl.float64) / temperature + _noise(ids, stream, position, purpose)
            found = tl.where(stays, found, float("-inf"))
            high = tl.max(found, 0)
            at = tl.min(tl.where(found == high, ids, size), 0)
            winner, score = tl.where(high > score, at, winner), tl.maximum(score, high)
        best = winner
    tl.store(chosen + row, tl.where(strange > 0, -1, best).to(tl.int64))
    tl.store(scores + row, score)
