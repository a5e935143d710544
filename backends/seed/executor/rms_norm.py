"""The root-mean-square norm of the Llama family, in half of the operations that transformers takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...models.int8_network import RowNorm


class RmsNorm:
    """x / sqrt(mean(x^2) + epsilon) * weight over rows (..., E), in float32, rounded to the dtype of the weight."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        """``weight`` (E,)."""
        self._dtype, root = weight.dtype, math.sqrt(len(weight))
        self.weight = weight.detach().float() * root
        """(E,) times sqrt(E), for x / sqrt(sum(x^2) + floor)."""
        self.floor = len(weight) * epsilon
        """What is added to the sum of squares."""
        self._offset = self.weight.new_tensor(root * math.sqrt(epsilon))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., E)."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (..., 1)
        return x.div(length.hypot_(self._offset)).mul_(self.weight).to(self._dtype)


def make_norm(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The norm of a layer of a network."""
    if isinstance(module, RowNorm):
        return module
    if module.weight.dtype == torch.float64:  # transformers computes norms in float32 then, and so must we
        return module  # type: ignore[no-any-return]
    return RmsNorm(module.weight, module.variance_epsilon)


def stacked_norms(queries: Any, keys: Any) -> tuple[torch.Tensor | None, float]:
    """Weights (2, D) of the norms of queries and keys, and the floor of both; None and 0 without such norms."""
    if not isinstance(queries, RmsNorm) or not isinstance(keys, RmsNorm):
        return None, 0.0
    return torch.stack((queries.weight, keys.weight)), queries.floor
