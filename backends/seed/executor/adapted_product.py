"""The product of :class:`.packed_linear.Product` with low-rank changes of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ...models.low_rank import LowRank, join
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


AnyProduct = Product | Int8Product | AdaptedProduct


def with_change(product: AnyProduct, parts: Sequence[LowRank | None]) -> AnyProduct:
    """A product with the low-rank changes of its layers."""
    assert not isinstance(product, AdaptedProduct)  # noqa: S101  # the layers of a model alone are adapted
    low = join(parts, product.sizes)
    return product if low is None else AdaptedProduct(product, [(slice(None), low)])


def joined_products(products: Sequence[AnyProduct], rows: Sequence[slice]) -> AnyProduct:
    """One product with several adapters, each for some rows."""
    plain = [product.product if isinstance(product, AdaptedProduct) else product for product in products]
    changes = [
        (own, low)
        for product, own in zip(products, rows, strict=True)
        if isinstance(product, AdaptedProduct)
        for _, low in product.changes
    ]
    return AdaptedProduct(plain[0], changes) if changes else plain[0]
