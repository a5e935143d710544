"""Linear layers with weights that are laid out once for the CPU's matrix kernels.

torch converts a weight's layout for every product. With the layout converted once, the products of SmolLM2-135M take 33
instead of 80 ms for 16 rows, and a row's result hardly depends on the number of rows in the product. The operators are
private to torch (:mod:`treeagent.backends.models.torch_private`): a product stays plain where they are not available.

oneDNN, which runs packed products, compiles and keeps about 650 KiB of code for each product and each number of rows,
and a call takes 35 microseconds before it computes. Weights below :data:`LARGE` are smaller than that code: they are
stored transposed instead, as MKL reads them without a conversion, and nothing is kept from one call to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...models.int8 import Int8Linear, is_plain
from ...models.torch_private import pack_weight, packed_linear, packed_linear_binary
from .int8_product import Int8Product

LARGE = 2**18
"""Numbers of a weight from which on it is packed (1 MiB in float32; all weights of ``mini`` are smaller)."""

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of sibling layers with the same input in the models of transformers."""


class Product:
    """One product with the concatenated weights of one or several linear layers: (..., in) to (..., sum of out)."""

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
        transposed = self._weight.device.type == "cpu" and self._weight.dtype == torch.float32
        packed = None
        if not transposed or self._weight.numel() >= LARGE:
            packed = pack_weight(self._weight, self._bias)
        self.packed = packed is not None
        """Whether the weight is in the packed layout."""
        if packed is not None:
            self._weight = packed
        elif transposed:
            self._weight = self._weight.t().contiguous().t()  # same numbers, another order in memory

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (..., in) times the weights, (..., sum of out)."""
        if not self.packed:
            return F.linear(x, self._weight, self._bias)
        return packed_linear(x, self._weight, self._bias)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """The product through the activation x * sigmoid(x)."""
        if not self.packed:
            return F.silu(F.linear(x, self._weight, self._bias), inplace=True)
        return packed_linear(x, self._weight, self._bias, "swish")

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product multiplied by ``other`` (..., sum of out)."""
        if not self.packed:
            return F.linear(x, self._weight, self._bias).mul_(other)
        return packed_linear_binary(x, other, self._weight, self._bias, "mul")

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to ``other`` (..., sum of out)."""
        if not self.packed:
            return F.linear(x, self._weight, self._bias).add_(other)
        return packed_linear_binary(x, other, self._weight, self._bias, "add")


def make_product(layers: Sequence[nn.Linear | Int8Linear]) -> Product | Int8Product:
    """The product of sibling layers, which are all of one kind."""
    eights = [layer for layer in layers if isinstance(layer, Int8Linear)]
    return Int8Product(eights) if eights else Product([layer for layer in layers if isinstance(layer, nn.Linear)])


def pack(network: nn.Module) -> int:
    """Replace linear layers on the CPU by packed ones in place; returns their number. Frees the plain weights."""
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


class _Joint:
    """One product for sibling layers, which are called one after another with the same input."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self._input: torch.Tensor | None = None
        self._outputs: Sequence[torch.Tensor] = ()

    def part(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """The output (..., out) of one layer; those of its siblings are stored until the input changes."""
        if len(self.product.sizes) == 1:
            return self.product(x)
        if x is not self._input:
            self._outputs = torch.split(self.product(x), self.product.sizes, dim=-1)
            self._input = x
        output = self._outputs[place]
        if place == len(self.product.sizes) - 1:  # the last one that models compute
            self._input, self._outputs = None, ()
        return output


class _Part(nn.Module):
    """One of the layers of a joint product, in place of a linear layer."""

    def __init__(self, joint: _Joint, place: int) -> None:
        super().__init__()
        self._joint = joint
        self._place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self._joint.part(self._place, x)
