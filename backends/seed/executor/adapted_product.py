"""The product of :class:`.packed_linear.Product` with low-rank changes of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ...models.low_rank import LowRank
from .int8_product import Int8Product
from .packed_linear import Product


class AdaptedProduct:
    """(rows, in) to (rows, sum of out), over the weights of a product that others use without the changes."""

    def __init__(self, product: Product | Int8Product, changes: Sequence[tuple[slice, LowRank]]) -> None:
        """``changes``: rows, and what is added to their outputs."""
        self.product, self.changes = product, changes
        self.sizes = product.sizes
        """Outputs of each layer."""
        self.packed = product.packed

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (rows, in) times the weights, (rows, sum of out)."""
        return self._changed(self.product(x), x)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """The product through the activation x * sigmoid(x)."""
        return F.silu(self(x), inplace=True)

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product multiplied by ``other`` (rows, sum of out)."""
        return self(x).mul_(other)

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product added to ``other`` (rows, sum of out)."""
        return self._changed(self.product.plus(x, other), x)

    def _changed(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Outputs ``y`` for the inputs ``x`` with the changes, in place."""
        for rows, low in self.changes:
            y[rows].add_(low(x[rows]))
        return y
