"""Weights that are integers times a scale for each block of 32 inputs, as in the types Q8_0 and Q4_0 of GGUF files.

A weight of such a file is d q, with d in float16 and an integer q: |q| <= 127 (Q8_0), -8 <= q <= 7 (Q4_0). transformers
expands it to float32, where the product is exact, as it has 19 bits at most. So the integers and the scale can be had
back from the expanded numbers: the quantiser of GGUF gives the largest number of a block the largest integer, 127 or 8,
and the scale is that number over 127 or 8. Whatever does not come back bit by bit is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

BLOCK = 32
"""Inputs that have one scale."""
LARGEST = (127, 8)
"""The largest absolute integer of a block, by type."""
GLANCE = 64
"""Rows that are tried first; other weights differ there already."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightBlocks:
    """A weight (out, in) as integers, and a scale for each block."""

    integers: torch.Tensor
    """(out, in) in int8."""
    scales: torch.Tensor
    """(out, in / 32) in float32."""


def as_blocks(weights: Sequence[torch.Tensor]) -> WeightBlocks | None:
    """Weights (out, in) side by side in blocks, which are their numbers exactly; None where they cannot be."""
    parts: list[WeightBlocks] = []
    for weight in weights:
        if weight.dtype != torch.float32 or weight.shape[1] % BLOCK or _of_one(weight[:GLANCE]) is None:
            return None
        part = _of_one(weight)
        if part is None:
            return None
        parts.append(part)
    return WeightBlocks(torch.cat([part.integers for part in parts]), torch.cat([part.scales for part in parts]))


def _of_one(weight: torch.Tensor) -> WeightBlocks | None:
    blocks = weight.reshape(len(weight), -1, BLOCK)  # (out, in / 32, 32)
    most = blocks.abs().amax(dim=2, keepdim=True)
    for largest in LARGEST:
        scales = most / largest
        # a block of zeros has no scale; that of any other must be exact, or the products would be rounded
        integers = torch.round(blocks / torch.where(scales == 0, 1.0, scales))
        if torch.equal(integers * scales, blocks):
            return WeightBlocks(integers.to(torch.int8).view(weight.shape), scales[..., 0])
    return None
