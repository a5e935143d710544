"""What a layer of the Llama family computes between its products and its attention, as three Triton kernels.

Each takes the place of three to six operations of torch, whose launches cost more than their arithmetic in the passes
of a small model:

- :func:`add_norm`: the residual, and the root-mean-square norm of the sum.
- :func:`rotate_and_store`: norms of queries and keys where a model has them, rotary positions, and keys and values put
  into the pool.
- :func:`gate`: silu(gate) * up.

Numbers are rounded to the dtype of the tensors where torch's operations round them; everything between is float32. A
program computes one token, or a part of one, whatever else is in the pass, so a token's numbers do not depend on it.

T tokens, E hidden size, I inner size, H query heads, h key heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

HEADS = 4
"""Heads that a program rotates."""
BLOCK = 1024
"""Numbers of a token that a program multiplies by its gate."""


@dataclass(frozen=True)
class HeadShape:
    """What is known when the rotation is compiled: once for each kind of layer."""

    heads: int
    """Query heads."""
    keys: int
    """Key heads."""
    half: int
    """Half of the head size."""
    width: int
    """The same, rounded up to a power of two."""
    block: int
    """Heads of a program."""
    step: int
    """Numbers from one token's cosines to the next one's."""
    floor: float
    """What the norm of a head adds to the sum of its squares."""


def add_norm(
    x: torch.Tensor, y: torch.Tensor | None, weight: torch.Tensor, floor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum s of ``x`` and ``y`` (T, E), and s * ``weight`` / sqrt(sum of squares + ``floor``) by rows; (T, E) each.

    ``y`` becomes the sum; without it the sum is ``x``. ``weight`` (E,) is in float32.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    width = triton.next_power_of_2(x.shape[1])
    with torch.cuda.device(x.get_device()):  # Triton takes the current device; -1 changes nothing
        add_and_norm[(len(x),)](x, y, weight, out, x.shape[1], floor, width, num_warps=4 if width <= 4096 else 8)
    return x if y is None else y, out


def rotate_and_store(
    qkv: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    entries: torch.Tensor,
    slots: torch.Tensor,
    norms: torch.Tensor | None = None,
    floor: float = 0.0,
) -> None:
    """Turn queries and keys by their positions; queries stay in place, keys and values go into the pool.

    ``qkv`` (T, H + 2 h, D) are queries, keys and values side by side, ``rotation`` cosines and signed sines (T, 1, D),
    ``entries`` (slots, 2, h, D) and ``slots`` (T,) where the tokens belong. ``norms`` (2, D) in float32 are the weights
    of the norms of queries and keys, ``floor`` as in :func:`add_norm`. Keys in ``qkv`` stay as they were.
    """
    tokens, every, dim = qkv.shape
    cos, sin = rotation
    keys = entries.shape[2]
    half = dim // 2
    width, step = triton.next_power_of_2(half), cos.stride(0)
    shape = HeadShape(every - 2 * keys, keys, half, width, HEADS, step, floor)
    with torch.cuda.device(qkv.get_device()):
        turn_and_store[(tokens, triton.cdiv(every, HEADS))](qkv, cos, sin, entries, slots, norms, shape, num_warps=4)


def gate(both: torch.Tensor) -> torch.Tensor:
    """silu(g) * u for the halves g and u of each row of ``both`` (T, 2 I); (T, I)."""
    size = both.shape[1] // 2
    out = torch.empty(len(both), size, dtype=both.dtype, device=both.device)
    with torch.cuda.device(both.get_device()):
        gate_halves[(len(both), triton.cdiv(size, BLOCK))](both, out, size, BLOCK, num_warps=4)
    return out


@triton.jit  # type: ignore[untyped-decorator]
def add_and_norm(
    x: tl.tensor,
    y: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    size: tl.tensor,
    floor: tl.tensor,
    width: tl.constexpr,
) -> None:
    """One token."""
    column = tl.arange(0, width)
    inside = column < size
    at = tl.program_id(0).to(tl.int64) * size + column
    value = tl.load(x + at, mask=inside, other=0.0)
    if y is not None:
        other = tl.load(y + at, mask=inside, other=0.0)
        value = (value.to(tl.float32) + other.to(tl.float32)).to(out.dtype.element_ty)
        tl.store(y + at, value, mask=inside)
    wide = value.to(tl.float32)
    length = tl.sqrt(tl.sum(wide * wide, 0) + floor)
    normed = wide / length * tl.load(weight + column, mask=inside, other=0.0)
    tl.store(out + at, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def turn_and_store(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    entries: tl.tensor,
    slots: tl.tensor,
    norms: tl.tensor,
    shape: tl.constexpr,
) -> None:
    """Some heads of one token, in halves: number i of a head turns with number i + D / 2."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * shape.block + tl.arange(0, shape.block)
    column = tl.arange(0, shape.width)
    dim = 2 * shape.half
    turned = shape.heads + shape.keys
    every = turned + shape.keys
    inside = column < shape.half
    cells = (head < every)[:, None] & inside[None, :]
    place = head[:, None] * dim + column[None, :]  # (block, width)
    at = qkv + token * (every * dim) + place
    first, second = tl.load(at, mask=cells, other=0.0), tl.load(at + shape.half, mask=cells, other=0.0)
    a, b = first.to(tl.float32), second.to(tl.float32)
    if norms is not None:
        length = tl.sqrt(tl.sum(a * a + b * b, 1) + shape.floor)[:, None]
        row = norms + tl.where(head < shape.heads, 0, dim)[:, None] + column[None, :]
        a = (a / length * tl.load(row, mask=cells, other=0.0)).to(first.dtype).to(tl.float32)
        b = (b / length * tl.load(row + shape.half, mask=cells, other=0.0)).to(first.dtype).to(tl.float32)
    angle = token * shape.step + column
    cos_a = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    cos_b = tl.load(cos + angle + shape.half, mask=inside, other=0.0).to(tl.float32)[None, :]
    sin_a = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    sin_b = tl.load(sin + angle + shape.half, mask=inside, other=0.0).to(tl.float32)[None, :]
    left = ((a * cos_a).to(first.dtype).to(tl.float32) + b * sin_a).to(first.dtype)
    right = ((b * cos_b).to(first.dtype).to(tl.float32) + a * sin_b).to(first.dtype)
    asked = (head < shape.heads)[:, None]
    tl.store(at, left, mask=cells & asked)
    tl.store(at + shape.half, right, mask=cells & asked)
    rotates = (head < turned)[:, None]  # values do not
    slot = tl.load(slots + token).to(tl.int64)
    kept = entries + slot * (2 * shape.keys * dim) + place - shape.heads * dim
    tl.store(kept, tl.where(rotates, left, first), mask=cells & (head >= shape.heads)[:, None])
    tl.store(kept + shape.half, tl.where(rotates, right, second), mask=cells & (head >= shape.heads)[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def gate_halves(both: tl.tensor, out: tl.tensor, size: tl.tensor, block: tl.constexpr) -> None:
    """A part of one token."""
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < size
    row = tl.program_id(0).to(tl.int64)
    at = both + row * (2 * size) + column
    g = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(at + size, mask=inside, other=0.0).to(tl.float32)
    active = (g / (1 + tl.exp(-g))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * size + column, (active * u).to(out.dtype.element_ty), mask=inside)
