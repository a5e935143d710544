"""The product of :class:`.packed_linear.Product` with a low-rank change of its weights."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ...models.low_rank import LowRank
from .int8_product import Int8Product
from .packed_linear import Product


class AdaptedProduct:
    """(..., in) to (..., sum of out), over the weights of a product that others use without the change."""

    def __init__(self, product: Product | Int8Product, low: LowRank) -> None:
        self._product, self._low = product, low
        self.sizes = product.sizes
        """Outputs of each layer."""
        self.packed = product.packed

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (..., in) times the weights, (..., sum of out)."""
        return self._product(x).add_(self._low(x))

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """The product through the activation x * sigmoid(x)."""
        return F.silu(self(x), inplace=True)

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product multiplied by ``other`` (..., sum of out)."""
        return self(x).mul_(other)

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to ``other`` (..., sum of out)."""
        return self._product.plus(x, other).add_(self._low(x))
