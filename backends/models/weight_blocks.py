"""Weights that are integers with a scale, and perhaps a lowest value, for each block of inputs, as those of GGUF files.

A number is fl(fl(d q) + m) with an integer q of 8 bits: the scale d and the value m of its block are in float32, and
so are both roundings. The types of GGUF have 16 or 32 inputs in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class WeightBlocks:
    """A weight (out, in) as integers, with a scale for each block."""

    integers: torch.Tensor
    """(out, in) in int8."""
    scales: torch.Tensor
    """(out, blocks) in float32."""
    lowest: torch.Tensor | None = None
    """(out, blocks) in float32, added to every number of the block; None: nothing is added."""

    @property
    def size(self) -> int:
        """Inputs of a block."""
        return self.integers.shape[1] // self.scales.shape[1]

    def expanded(self) -> torch.Tensor:
        """The weight (out, in) in float32."""
        numbers = self.integers.view(*self.scales.shape, self.size) * self.scales[..., None]
        if self.lowest is not None:
            numbers += self.lowest[..., None]
        return numbers.view(self.integers.shape)

    def rows(self, order: torch.Tensor) -> WeightBlocks:
        """The outputs (out,) in another order."""
        lowest = None if self.lowest is None else self.lowest[order]
        return WeightBlocks(self.integers[order], self.scales[order], lowest)


def stacked(parts: Sequence[WeightBlocks]) -> WeightBlocks:
    """Weights of layers with the same input, one below the other, in blocks of the smallest of their sizes."""
    size = min(part.size for part in parts)
    scales = [part.scales.repeat_interleave(part.size // size, dim=1) for part in parts]
    lowest = None
    if any(part.lowest is not None for part in parts):
        lowest = torch.cat(
            [
                torch.zeros_like(of) if part.lowest is None else part.lowest.repeat_interleave(part.size // size, dim=1)
                for part, of in zip(parts, scales, strict=True)
            ]
        )
    return WeightBlocks(torch.cat([part.integers for part in parts]), torch.cat(scales), lowest)
