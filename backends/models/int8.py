"""Linear layers with 8-bit weights and activations on the CPU, whose sums are exact integers.

A weight w[o, i] is the integer round(w[o, i] / s[o]) times the scale s[o] = max_i |w[o, i]| / 127 of its output. A row
x of activations is divided by its largest absolute value a, and then has the fixed scale 1/127. The output is

    y[o] = a / 127 * s[o] * sum_i round(127 x[i] / a) round(w[o, i] / s[o]) + bias[o],

with the sum in exact integer arithmetic, so that a row's output does not depend on the rows beside it. One rounding
difference before a product can move an activation by a whole step, and that changes tokens: :mod:`.int8_network` says
how the rest of a network computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .torch_private import pack_int8, packed_int8_linear, unpack_int8

LARGEST = 127
"""Largest absolute value of an 8-bit weight or activation."""

_EXACT = (1 << 24) // LARGEST**2
"""Products whose sum float32 holds exactly."""


class UnsupportedLinear(Exception):
    """A network has layers that cannot be replaced; the message names them."""


class Int8Linear(nn.Module):
    """A linear layer (..., in) to (..., out) in 8-bit arithmetic; see the head of the file for its law."""

    def __init__(self, integers: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """``integers`` (out, in) in int8, ``scales`` (out,) and ``bias`` (out,) in float32."""
        super().__init__()
        self.out_features, self.in_features = integers.shape
        self.scales, self.bias = scales, bias
        self._integers: torch.Tensor | None = integers
        self._packed: Any = None

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The layer with rounded weights."""
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)  # (out,)
        integers = torch.round(weight / scales[:, None]).clamp_(-LARGEST, LARGEST).to(torch.int8)
        return cls(integers, scales, None if linear.bias is None else linear.bias.detach().float())

    @classmethod
    def joined(cls, layers: list[Int8Linear]) -> Int8Linear:
        """One layer with the outputs of several that have the same input, one after another."""
        bias = None
        if any(layer.bias is not None for layer in layers):
            parts = [
                layer.scales.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers
            ]
            bias = torch.cat(parts)
        integers = torch.cat([layer.integers for layer in layers])
        return cls(integers, torch.cat([layer.scales for layer in layers]), bias)

    @property
    def integers(self) -> torch.Tensor:
        """The rounded weights (out, in) in int8."""
        return unpack_int8(self._packed) if self._integers is None else self._integers

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.out_features * self.in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the dtype of ``x``."""
        rows = x.reshape(-1, self.in_features)
        largest = _largest(rows)
        out = self._sums((rows / largest).float()).to(x.dtype).mul_(largest)  # (N, out)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], self.out_features)

    def consume(self, rows: torch.Tensor) -> torch.Tensor:
        """:meth:`forward` of contiguous ``rows`` (N, in) in float32, which are overwritten."""
        largest = _largest(rows)
        out = self._sums(rows.div_(largest)).mul_(largest)  # (N, out)
        return out if self.bias is None else out.add_(self.bias)

    def negated(self) -> Int8Linear:
        """The layer whose outputs have the other sign, bit for bit."""
        return Int8Linear(-self.integers, self.scales, None if self.bias is None else -self.bias)

    def _sums(self, rows: torch.Tensor) -> torch.Tensor:
        """The products (N, out) of ``rows`` (N, in) with values from -1 to 1, without the bias.

        Rows of zeros have been divided by zero: their product is any finite number, and :meth:`forward` multiplies it
        by zero.
        """
        if self._packed is None and self._integers is not None:
            self._packed = pack_int8(self._integers, self.scales)
            if self._packed is not None:
                self._integers = None  # the packed weight holds them
        if self._packed is not None:
            return packed_int8_linear(rows, self._packed, LARGEST)
        rounded, weight = torch.round(rows * LARGEST).nan_to_num_(), self.integers
        total = torch.zeros(len(rows), self.out_features, dtype=torch.float64)
        for first in range(0, self.in_features, _EXACT):  # each part is exact in float32
            part = slice(first, first + _EXACT)
            total += rounded[:, part] @ weight[:, part].float().T
        return (total * self.scales.double() / LARGEST).float()


def is_plain(module: Any) -> bool:
    """Whether a module is torch's linear layer, and nothing else computes in its place.

    Libraries of quantised models replace the weight's type, or the module's forward.
    """
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter and "forward" not in vars(module)


def _largest(rows: torch.Tensor) -> torch.Tensor:
    """The largest absolute value (N, 1) of each row (N, in)."""
    return rows.abs().amax(dim=1, keepdim=True)


def quantize(network: nn.Module, rounded: Callable[[nn.Linear], nn.Module] = Int8Linear.of) -> None:
    """Replace all linear layers of a network on the CPU in place, each by what ``rounded`` makes of it.

    Raises UnsupportedLinear.
    """
    others = {
        type(module).__name__
        for module in network.modules()
        if not is_plain(module) and not isinstance(module, nn.Embedding) and _has_matrix(module)
    }
    if others:
        raise UnsupportedLinear(f"its weights lie in layers of the kind {', '.join(sorted(others))}")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and is_plain(child):
                setattr(parent, name, rounded(child))


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module itself holds a weight of two or more dimensions."""
    return any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))
