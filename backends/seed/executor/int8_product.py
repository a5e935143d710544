"""The product of :class:`.packed_linear.Product` in 8-bit arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ...models.int8 import Int8Linear


class Int8Product:
    """One product with the weights of one or several 8-bit layers: (..., in) to (..., sum of out)."""

    packed = True
    """The layers themselves are not used any more."""

    def __init__(self, layers: Sequence[Int8Linear]) -> None:
        self.sizes = [layer.out_features for layer in layers]
        """Outputs of each layer."""
        self._layer = layers[0] if len(layers) == 1 else Int8Linear.joined(list(layers))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (..., in) times the weights, (..., sum of out)."""
        return self._layer.forward(x)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """The product through the activation x * sigmoid(x)."""
        return F.silu(self._layer.forward(x), inplace=True)

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product multiplied by ``other`` (..., sum of out)."""
        return self._layer.forward(x).mul_(other)

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to ``other`` (..., sum of out)."""
        return self._layer.forward(x).add_(other)
