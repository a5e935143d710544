"""Which attention a model's passes use on its device: the Triton kernel on CUDA, or plain calls of torch and why."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from subprocess import CalledProcessError

import numpy as np
import torch

from ..kv_cache.pool import SlotPool
from ..kv_cache.radix_tree import RadixCache
from .attention_rule import AttentionRule
from .forward_batch import make_forward_batch
from .segment import Segment
from .tree_attention import AttentionContext, attend_forest

LARGEST = 512
"""The largest head size: a block of 16 keys of it fits in the memory that the cores of a GPU share."""
ROWS = 64
"""The most rows of a tile: queries, times the query heads that share a key head."""
ROW_BYTES = 32 * 1024
"""The most bytes of a tile's rows."""
QUERIES = 16
"""The most queries of a tile."""
CAPABILITY = (8, 0)
"""The least compute capability: bfloat16 on tensor cores."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Dtypes of the kernel, and the largest difference from plain attention in the trial, over values of size 1."""


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """What computes the attention of a model's passes."""

    tile_queries: int = 0
    """The most queries of a tile of the kernel; 0 for calls of torch."""
    why: str | None = None
    """Why there is no kernel on a GPU, in one line."""

    def __str__(self) -> str:
        return f"plain attention ({self.why})" if self.why else "attention in Triton"


def choose_attention(
    device: torch.device, dtype: torch.dtype, layers: Sequence[tuple[int, int]], query_heads: int
) -> AttentionChoice | None:
    """The choice for layers of so many key heads and such head sizes; None on a CPU, where there is none to make."""
    if device.type != "cuda":
        return None
    if dtype not in TOLERANCE:
        return AttentionChoice(why=f"the kernel computes no {str(dtype).removeprefix('torch.')}")
    largest = max(dim for _, dim in layers)
    if largest > LARGEST:
        return AttentionChoice(why=f"a head size of {largest} is above {LARGEST}")
    if any(query_heads % heads for heads, _ in layers):
        return AttentionChoice(why=f"{query_heads} query heads are not shared evenly by the key heads")
    if find_spec("triton") is None:
        return AttentionChoice(why="no triton: pip install triton")
    found = capability(device)
    if found < CAPABILITY:
        return AttentionChoice(why="compute capability {}.{} is below {}.{}".format(*found, *CAPABILITY))
    group = max(query_heads // heads for heads, _ in layers)
    rows = min(ROWS, ROW_BYTES // (largest * dtype.itemsize))
    queries = max(1, min(QUERIES, rows // group))
    fault = trial(device, dtype, layers, query_heads, queries)
    return AttentionChoice(queries) if fault is None else AttentionChoice(why=fault)


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA device."""
    return torch.cuda.get_device_capability(device)


def trial(
    device: torch.device, dtype: torch.dtype, layers: Sequence[tuple[int, int]], query_heads: int, queries: int
) -> str | None:
    """What is wrong with the kernel on a device: it cannot be compiled, or differs from plain attention; None if right.

    A prompt, and a tree after it, once for each kind of layer.
    """
    kinds = sorted(set(layers))
    pool = SlotPool(kinds, dtype, device, limit=32)
    forest = RadixCache(pool)
    chance, generator = random.Random(0), torch.Generator().manual_seed(0)
    parents = [chance.randint(-1, node - 1) for node in range(12)]
    prompt, tree = pool.allocate(20), pool.allocate(12)
    spans = [
        Segment([0] * 20, prompt, np.zeros(0, dtype=np.int64), forest.root),
        Segment([0] * 12, tree, prompt, forest.root, parents),
    ]
    for place, (heads, dim) in enumerate(kinds):
        query = torch.randn(32, query_heads, dim, generator=generator).to(device, dtype)
        new = torch.randn(32, 2, heads, dim, generator=generator).to(device, dtype)
        rule = AttentionRule(dim**-0.5)
        results = []
        for most in (0, queries):
            plan = make_forward_batch(spans, dtype, device, tile_queries=most)
            order = torch.argsort(plan.slots)  # both batches have the same tokens, in different places
            place_of = torch.argsort(order)
            try:
                out = attend_forest(query[place_of], new[place_of], place, AttentionContext(plan, pool), rule)
            except failures() as error:
                return f"head size {dim}: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
            results.append(out[order].float())
        worst = float((results[0] - results[1]).abs().max())
        if not worst <= TOLERANCE[dtype]:
            return f"head size {dim}: its results differ from plain ones by {worst:.2g}"
    return None


def failures() -> tuple[type[Exception], ...]:
    """What a kernel raises that cannot be compiled or started, for want of a compiler or of shared memory too."""
    from triton.errors import TritonError  # noqa: PLC0415  # an optional library

    return (TritonError, CalledProcessError, RuntimeError, OSError, ImportError, AttributeError)
