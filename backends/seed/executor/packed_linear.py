"""Products with weights that are packed once for the CPU's matrix kernels, by operators that ship with torch.

torch lays a weight out anew for every product. With the layout made once (``mkldnn::_reorder_linear_weight``, what
inductor emits when it freezes a model) SmolLM2-135M's products take 33 instead of 80 ms for 16 rows, and a row's result
hardly depends on how many rows share the product. The operators are private: they are looked for and tried, and a
product stays plain where they are absent or give something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

ROWS = 16
"""Rows the layout is made for; it serves every other number as well."""

NEAR = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Dtypes that are packed, and how near (relative) the packed product must be to the plain one."""

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names that siblings with the same input carry in the models of transformers."""


class Product:
    """The product with one or several linear layers' weights side by side: (..., in) to (..., sum of out)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.sizes = [len(layer.weight) for layer in layers]
        """Outputs of each layer."""
        self._weight: Any = torch.cat([layer.weight.detach() for layer in layers])  # (sum of out, in)
        self._bias: torch.Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            biases = [
                layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers
            ]
            self._bias = torch.cat([bias.detach() for bias in biases])
        packed = self._packed()
        self.packed = packed is not None
        """Whether the fast operators are used."""
        if packed is not None:
            self._weight = packed

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (..., in) times the weights, (..., sum of out)."""
        if not self.packed:
            return F.linear(x, self._weight, self._bias)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return result

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """The product through the activation x * sigmoid(x)."""
        if not self.packed:
            return F.silu(F.linear(x, self._weight, self._bias))
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")
        return result

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product multiplied by ``other`` (..., sum of out)."""
        if not self.packed:
            return F.linear(x, self._weight, self._bias).mul_(other)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "mul")
        return result

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to ``other`` (..., sum of out)."""
        if not self.packed:
            return other + F.linear(x, self._weight, self._bias)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "add")
        return result

    @torch.inference_mode()
    def _packed(self) -> Any:
        """The packed weight; None where torch lacks the operators, refuses the shapes or computes something else."""
        weight, bias = self._weight, self._bias
        if weight.device.type != "cpu" or weight.dtype not in NEAR:
            return None
        trial = torch.linspace(-1, 1, 3 * weight.shape[1]).sin().view(3, -1).to(weight.dtype)  # (3, in)
        plain = F.linear(trial, weight, bias)
        try:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
            made = torch.ops.mkldnn._linear_pointwise(trial, packed, bias, "none", [], "")
            added = torch.ops.mkldnn._linear_pointwise.binary(trial, plain, packed, bias, "add")
            times = torch.ops.mkldnn._linear_pointwise.binary(trial, plain, packed, bias, "mul")
            silu = torch.ops.mkldnn._linear_pointwise(trial, packed, bias, "swish", [], "")
        except (AttributeError, RuntimeError):
            return None
        pairs = ((made, plain), (added, 2 * plain), (times, plain * plain), (silu, F.silu(plain)))
        near = NEAR[weight.dtype]
        fits = all(float((a - b).abs().max()) <= near * max(1.0, float(b.abs().max())) for a, b in pairs)
        return packed if fits else None


def pack(network: nn.Module) -> int:
    """Replace linear layers of a model on the CPU by packed ones, in place; how many were. Frees the plain weights."""
    count = 0
    for parent in list(network.modules()):
        for names in (*TOGETHER, *((name,) for name, _ in parent.named_children())):
            layers = [getattr(parent, name, None) for name in names]
            if not all(is_plain(layer) for layer in layers):
                continue
            product = Product(layers)  # type: ignore[arg-type]  # all of them are linear layers
            if product.packed:
                joint = _Joint(product)
                for place, name in enumerate(names):
                    setattr(parent, name, _Part(joint, place))
                count += len(names)
    return count


def is_plain(module: Any) -> bool:
    """Whether a module is a linear layer and nothing more; a subclass may do other things."""
    return type(module) is nn.Linear


class _Joint:
    """One product for layers that are called one after another with the same input."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self._input: torch.Tensor | None = None
        self._outputs: Sequence[torch.Tensor] = ()

    def part(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """The output (..., out) of one layer; the siblings' are kept until they are asked for or the input changes."""
        if len(self.product.sizes) == 1:
            return self.product(x)
        if x is not self._input:
            self._outputs = torch.split(self.product(x), self.product.sizes, dim=-1)
            self._input = x
        output = self._outputs[place]
        if place == len(self.product.sizes) - 1:  # the last that models ask for
            self._input, self._outputs = None, ()
        return output


class _Part(nn.Module):
    """Stands where a linear layer stood."""

    def __init__(self, joint: _Joint, place: int) -> None:
        super().__init__()
        self._joint = joint
        self._place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self._joint.part(self._place, x)
