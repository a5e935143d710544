"""Linear layers with 4-bit weights and 8-bit activations, for draft models, which need no exactness.

A weight w[o, i] is the integer from -8 to 7 nearest to w[o, i] / s[o, b], times the scale s[o, b] of its output and of
the block b of 32 inputs, a number in bfloat16. Of some scales near the one that the largest weight asks for, that of
the least squared error is taken. A row x of activations is rounded as in :mod:`.int8`, a being its largest absolute
value, and the output is

    y[o] = a / 127 * sum_b s[o, b] * sum_(i in b) round(127 x[i] / a) round(w[o, i] / s[o, b]) + bias[o].

The sum over a block is exact. Blocks of 32 with one scale: as in GGUF's Q4_0 (llama.cpp).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .int8 import LARGEST

BLOCK = 32
"""Inputs with one scale."""
ZERO = 8
"""What is added to integers, which are kept from 0 to 15."""
LEAST, MOST = -8, 7
TRIED = (1.07, 1.0, 0.93, 0.86, 0.8)
"""Scales that are tried, as multiples of the largest absolute weight of a block over 7.5."""


class Int4Linear(nn.Module):
    """A linear layer (..., in) to (..., out); see the head of the file for its law."""

    def __init__(self, integers: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """``integers`` (out, in) + 8 in uint8, ``scales`` (out, blocks) in bfloat16, ``bias`` (out,) in float32."""
        super().__init__()
        self.out_features, self.in_features = integers.shape
        self.integers, self.scales, self.bias = integers, scales, bias

    @classmethod
    def of(cls, linear: nn.Linear) -> Int4Linear:
        """The layer with rounded weights."""
        weight = linear.weight.detach().float()
        inputs = weight.shape[1]
        blocks = F.pad(weight, (0, -inputs % BLOCK)).view(len(weight), -1, BLOCK)  # (out, blocks, 32)
        largest = blocks.abs().amax(dim=2, keepdim=True)
        best = integers = scales = None
        for part in TRIED:
            scale = (largest * (part / (ZERO - 0.5))).bfloat16().clamp_min(torch.finfo(torch.bfloat16).tiny)
            rounded = torch.round(blocks / scale).clamp_(LEAST, MOST)
            error = (rounded * scale - blocks).square_().sum(dim=2, keepdim=True)
            if best is None or integers is None or scales is None:
                best, integers, scales = error, rounded, scale
                continue
            better = error < best
            best = torch.where(better, error, best)
            integers, scales = torch.where(better, rounded, integers), torch.where(better, scale, scales)
        assert integers is not None  # noqa: S101  # some scale was tried
        assert scales is not None  # noqa: S101
        kept = (integers + ZERO).to(torch.uint8).view(len(weight), -1)[:, :inputs]
        return cls(kept, scales[:, :, 0], None if linear.bias is None else linear.bias.detach().float())

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.out_features * self.in_features

    def weight(self) -> torch.Tensor:
        """The weights (out, in) in float32."""
        scales = self.scales.float().repeat_interleave(BLOCK, dim=1)[:, : self.in_features]
        return (self.integers.float() - ZERO).mul_(scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the dtype of ``x``."""
        largest = x.abs().amax(dim=-1, keepdim=True)
        rounded = torch.round(x / largest * LARGEST).nan_to_num_()  # a row of zeros has been divided by zero
        out = F.linear(rounded.float(), self.weight()).to(x.dtype).mul_(largest / LARGEST)
        return out if self.bias is None else out.add_(self.bias)
