"""The first half of a gated layer: silu(gate(x)) * up(x), as two products or as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ...models.int8 import Int8Linear
from ...models.low_rank import LowRank
from .adapted_product import AnyProduct, joined_products, with_change
from .packed_linear import LARGE, make_product


class GateUp:
    """Two products: on a CPU each has its activation or multiplication in itself."""

    def __init__(self, gate: AnyProduct, up: AnyProduct) -> None:
        self.gate, self.up = gate, up

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(T, I) for ``x`` (T, E)."""
        return self.up.times(x, self.gate.silu(x))

    def adapted(self, changes: Sequence[LowRank | None]) -> GateUp:
        """With low-rank changes of gate and up, over the same weights."""
        gate, up = changes
        return GateUp(with_change(self.gate, [gate]), with_change(self.up, [up]))


class JointGateUp:
    """One product for both, on a GPU and for small weights, where a launch or a call costs more than it computes."""

    def __init__(self, product: AnyProduct) -> None:
        self.product = product
        """Gate and up side by side, (T, 2 I)."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(T, I) for ``x`` (T, E)."""
        gate, up = self.product(x).chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    def adapted(self, changes: Sequence[LowRank | None]) -> JointGateUp:
        """See :meth:`GateUp.adapted`."""
        return JointGateUp(with_change(self.product, changes))


def make_gate_up(mlp: Any) -> GateUp | JointGateUp:
    """Of a network's gated layer, whose weights are to be freed afterwards."""
    gate, up = mlp.gate_proj, mlp.up_proj
    eight = isinstance(gate, Int8Linear) or isinstance(up, Int8Linear)
    if not eight and (gate.weight.device.type != "cpu" or 2 * gate.weight.numel() < LARGE):
        return JointGateUp(make_product([gate, up]))
    return GateUp(make_product([gate]), make_product([up]))


def joined_gate_ups(several: Sequence[GateUp | JointGateUp], rows: Sequence[slice]) -> GateUp | JointGateUp:
    """One with several adapters, each for its ``rows``; all are of one kind."""
    joint = [each.product for each in several if isinstance(each, JointGateUp)]
    if joint:
        return JointGateUp(joined_products(joint, rows))
    apart = [each for each in several if isinstance(each, GateUp)]
    gate, up = [each.gate for each in apart], [each.up for each in apart]
    return GateUp(joined_products(gate, rows), joined_products(up, rows))
