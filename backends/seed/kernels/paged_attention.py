"""Attention of a pass on a GPU: new tokens of all rows over paged keys and values, as two Triton kernels.

A pass is cut into *tiles*: some queries over a run of at most 256 keys, as a table says that :mod:`.attention_table`
describes. :func:`attend_tiles` computes one tile for one key head: a softmax over the tile's keys, its result and
log-sum-exp kept in float32. :func:`merge_tiles` weighs the tiles of a token by their log-sum-exp. So three mechanisms
are one: keys of a long text are split among programs, a prefix that rows share is read once for all of them, and each
row's own keys follow.

- Online softmax, and keys split among programs: Dao, FlashAttention-2 (arXiv 2307.08691), and Flash-Decoding (2023).
- Shared prefixes as tiles of their own: Juravsky et al., Hydragen (arXiv 2402.05099); Ye et al., FlashInfer
  (arXiv 2501.01005, cascade attention).
- Keys and values by slot: Kwon et al., PagedAttention (arXiv 2309.06180), with pages of one token.
- Splits of fixed length, not of fixed number: where a text's sums are cut does not depend on how many rows there are.

T new tokens, H query heads, h key heads, G = H / h, D head size, R rows of partial results.
Products of float32 are computed as such: Triton's default would be TF32, which has 10 bits. Offsets into the pool take
64 bits. A key that no query sees is never multiplied by its weight of zero, as it may be NaN where a slot is unused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .attention_table import FIELDS, TILES, AttentionTiles

FIELD_COUNT = tl.constexpr(FIELDS)
TILES_AT = tl.constexpr(TILES)
NARROW = 16
"""Rows of the least product that tensor cores compute; a tile with no more takes no wider one."""


@dataclass(frozen=True)
class KernelShape:
    """What is known when the kernels are compiled: once for each kind of layer."""

    heads: int
    """Key heads."""
    group: int
    """Query heads of a key head."""
    heads_wide: int
    """The same, rounded up to a power of two."""
    dim: int
    width: int
    """The head size, rounded up to a power of two."""
    block: int
    """Keys that are read at a time."""
    narrow: int
    wide: int
    """Rows, which are queries times ``group``, of a small and of a full tile."""
    scale: float
    window: int | None
    softcap: float | None

    @classmethod
    def of(
        cls,
        query: torch.Tensor,
        entries: torch.Tensor,
        queries: int,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> KernelShape:
        """For ``query`` (T, H, D), ``entries`` (slots, 2, h, D) and at most so many ``queries`` in a tile."""
        heads, dim = entries.shape[2:]
        group = query.shape[1] // heads
        width = max(16, triton.next_power_of_2(dim))
        size = width * entries.element_size()  # bytes of a key; blocks and queries fit in what cores share
        block = 64 if size <= 256 else 32 if size <= 512 else 16
        wide = max(NARROW, triton.next_power_of_2(queries * group))
        return cls(
            heads,
            group,
            triton.next_power_of_2(group),
            dim,
            width,
            block,
            NARROW,
            wide,
            scale,
            window,
            softcap,
        )


def paged_attention(
    query: torch.Tensor,
    entries: torch.Tensor,
    tiles: AttentionTiles,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of one layer: ``query`` (T, H, D) over the pool's ``entries`` (slots, 2, h, D); result (T, H, D).

    Keys and values of the new tokens are in the pool already. A token attends to itself and, with a ``window``, to
    the ``window - 1`` tokens before it. With ``softcap`` c scores s become c tanh(s / c). ``sinks`` (H,) are scores
    without values. A token without tiles, which pads a pass, gets zeros.
    """
    tokens, heads, dim = query.shape
    shape = KernelShape.of(query, entries, tiles.queries, scale, window, softcap)
    partial = torch.empty(tiles.rows, heads, dim, dtype=torch.float32, device=query.device)
    lse = torch.empty(tiles.rows, heads, dtype=torch.float32, device=query.device)
    out = torch.empty(tokens, heads, dim, dtype=query.dtype, device=query.device)
    if query.stride(2) != 1:
        query = query.contiguous()
    warps = 4 if shape.wide * shape.width <= 64 * 128 else 8
    stages = 1 if shape.width * entries.element_size() > 1024 else 2  # blocks of keys that are fetched ahead
    with torch.cuda.device(query.get_device()):  # Triton takes the current device; -1 changes nothing
        attend_tiles[(tiles.count, shape.heads)](
            query,
            query.stride(0),
            query.stride(1),
            entries,
            tiles.tables,
            partial,
            lse,
            shape,
            num_warps=warps,
            num_stages=stages,
        )
        merge_tiles[(tokens, shape.heads)](partial, lse, tiles.tables, sinks, out, shape, num_warps=4)
    return out


@triton.jit  # type: ignore[untyped-decorator]
def attend_tiles(
    query: tl.tensor,
    token_stride: tl.tensor,
    head_stride: tl.tensor,
    entries: tl.tensor,
    tables: tl.tensor,
    partial: tl.tensor,
    lse: tl.tensor,
    shape: tl.constexpr,
) -> None:
    """One tile and key head: ``partial`` (R, H, D), normalised, and ``lse`` (R, H) of the tile's queries."""
    tile = tables + tl.load(tables + TILES_AT) + tl.program_id(0) * FIELD_COUNT
    rows = tl.load(tile + 1) * shape.group
    if rows > 0:  # else the tile pads a pass
        if shape.wide > shape.narrow and rows > shape.narrow:
            _attend(query, (token_stride, head_stride), entries, tables, tile, (partial, lse), shape, shape.wide)
        else:
            _attend(query, (token_stride, head_stride), entries, tables, tile, (partial, lse), shape, shape.narrow)


@triton.jit  # type: ignore[untyped-decorator]
def _attend(query, strides, entries, tables, tile, results, shape: tl.constexpr, size: tl.constexpr):  # type: ignore[no-untyped-def]
    """The tile with ``size`` rows: of each query all heads that share the key head, one after another."""
    queries, keys = tl.load(tables), tl.load(tables + 1)
    positions, bits = tables + tl.load(tables + 2), tables + tl.load(tables + 3)
    first, count = tl.load(tile), tl.load(tile + 1)
    key, length, key_position = tl.load(tile + 2), tl.load(tile + 3), tl.load(tile + 4)
    new, new_token = tl.load(tile + 5), tl.load(tile + 6)
    row, word, words = tl.load(tile + 7), tl.load(tile + 8), tl.load(tile + 9)

    place = tl.arange(0, size)
    local = place // shape.group  # (size,) which of the tile's queries
    real = local < count
    head = tl.program_id(1) * shape.group + place % shape.group  # (size,)
    column = tl.arange(0, shape.width)
    inside = column < shape.dim
    token = tl.load(tables + queries + first + local, mask=real, other=0).to(tl.int64)
    q = tl.load(
        query + (token * strides[0] + head * strides[1])[:, None] + column[None, :],
        mask=real[:, None] & inside[None, :],
        other=0.0,
    )  # (size, width)
    position = tl.load(positions + token, mask=real, other=2147483647)

    begin = 0
    if shape.window is not None:  # a key's index in its text is at least its position: what lies before is not seen
        begin = tl.maximum(0, tl.min(position) - shape.window + 1 - key_position)
    top = tl.full((size,), float("-inf"), tl.float32)
    total = tl.full((size,), 0.0, tl.float32)
    result = tl.full((size, shape.width), 0.0, tl.float32)
    for start in range(begin, length, shape.block):
        index = start + tl.arange(0, shape.block)  # of keys, in the tile
        held = index < length
        slot = tl.load(tables + keys + key + index, mask=held, other=0).to(tl.int64)
        at = entries + slot * (2 * shape.heads * shape.dim) + tl.program_id(1) * shape.dim
        k = tl.load(at[None, :] + column[:, None], mask=held[None, :] & inside[:, None], other=0.0)  # (width, block)
        score = tl.dot(q, k, input_precision="ieee") * shape.scale  # (size, block)
        if shape.softcap is not None:  # c tanh(s / c)
            score = shape.softcap * (1 - 2 / (1 + tl.exp(score * (2 / shape.softcap))))
        node = index - new  # which new token a key is; below 0 for the context, which is seen by all
        mask = tl.load(
            bits + word + local[:, None] * words + (node // 32)[None, :],
            mask=real[:, None] & (held & (node >= 0))[None, :],
            other=-1,
        )
        seen = held[None, :] & ((mask >> (node & 31)[None, :]) & 1 != 0)
        if shape.window is not None:
            own = tl.load(positions + new_token + node, mask=held & (node >= 0), other=0)
            there = tl.where(node >= 0, own, key_position + index)
            seen = seen & (there[None, :] > position[:, None] - shape.window)
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # nothing is seen so far
        weight = tl.exp(score - base[:, None])
        kept = tl.exp(top - base)
        total = total * kept + tl.sum(weight, 1)
        v = tl.load(
            at[:, None] + shape.heads * shape.dim + column[None, :], mask=held[:, None] & inside[None, :], other=0.0
        )  # (block, width)
        result = result * kept[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        top = higher

    place_out = (row + local).to(tl.int64) * (shape.heads * shape.group) + head
    tl.store(results[1] + place_out, top + tl.log(total), mask=real)  # minus infinity where nothing is seen
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(
        results[0] + place_out[:, None] * shape.dim + column[None, :], result, mask=real[:, None] & inside[None, :]
    )


@triton.jit  # type: ignore[untyped-decorator]
def merge_tiles(
    partial: tl.tensor, lse: tl.tensor, tables: tl.tensor, sinks: tl.tensor, out: tl.tensor, shape: tl.constexpr
) -> None:
    """One token and key head: ``out`` (T, H, D), the mean of its tiles by the exponentials of ``lse``.

    A head's sink is one more score that takes weight and has no value.
    """
    token = tl.program_id(0)
    starts, rows = tables + tl.load(tables + 4), tables + tl.load(tables + 5)
    place = tl.arange(0, shape.heads_wide)
    real = place < shape.group
    head = tl.program_id(1) * shape.group + place  # (heads_wide,)
    column = tl.arange(0, shape.width)
    cells = real[:, None] & (column < shape.dim)[None, :]
    top = tl.full((shape.heads_wide,), float("-inf"), tl.float32)
    total = tl.full((shape.heads_wide,), 0.0, tl.float32)
    if sinks is not None:
        top = tl.load(sinks + head, mask=real, other=0.0).to(tl.float32)
        total = tl.full((shape.heads_wide,), 1.0, tl.float32)
    result = tl.full((shape.heads_wide, shape.width), 0.0, tl.float32)
    for index in range(tl.load(starts + token), tl.load(starts + token + 1)):
        at = tl.load(rows + index).to(tl.int64) * (shape.heads * shape.group) + head
        score = tl.load(lse + at, mask=real, other=float("-inf"))
        higher = tl.maximum(top, score)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weight, kept = tl.exp(score - base), tl.exp(top - base)
        value = tl.load(partial + at[:, None] * shape.dim + column[None, :], mask=cells, other=0.0)
        total = total * kept + weight
        result = result * kept[:, None] + value * weight[:, None]
        top = higher
    result = result / tl.where(total > 0, total, 1.0)[:, None]
    cell = (token.to(tl.int64) * (shape.heads * shape.group) + head)[:, None] * shape.dim + column[None, :]
    tl.store(out + cell, result.to(out.dtype.element_ty), mask=cells)
