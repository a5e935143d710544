"""One layer of the Llama family, as :class:`.llama.LlamaDecoder` runs it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...models.low_rank import LowRank
from .adapted_product import AnyProduct, joined_products, with_change
from .gate_up import joined_gate_ups, make_gate_up
from .packed_linear import make_product
from .rms_norm import make_norm, stacked_norms

JOINT = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Linear layers of a decoder layer, those with the same input together."""


def changes_of(layers: Mapping[str, LowRank], index: int) -> list[list[LowRank | None]]:
    """The low-rank changes of one decoder layer, as :data:`JOINT` names its linear layers."""
    return [[layers.get(f"model.layers.{index}.{path}") for path in paths] for paths in JOINT]


class LlamaLayer:
    """The weights of a layer, and what it computes beside rotation and attention. T tokens, E hidden size."""

    def __init__(self, layer: Any) -> None:
        """The layer's weights are taken over."""
        attention, mlp = layer.self_attn, layer.mlp
        self.before = make_norm(layer.input_layernorm)
        self.qkv: AnyProduct = make_product([attention.q_proj, attention.k_proj, attention.v_proj])
        self.q_norm = make_norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.k_norm = make_norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self.head_norms, self.head_floor = stacked_norms(self.q_norm, self.k_norm)
        self.scale, self.wide = float(attention.scaling), False
        self.out: AnyProduct = make_product([attention.o_proj])
        self.between = make_norm(layer.post_attention_layernorm)
        self.gate_up = make_gate_up(mlp)
        self.down: AnyProduct = make_product([mlp.down_proj])
        layer.self_attn = layer.mlp = None  # frees the plain weights

    def adapted(self, changes: Sequence[Sequence[LowRank | None]]) -> LlamaLayer:
        """The layer with low-rank changes of its products, over the same weights."""
        qkv, out, gate_up, down = changes
        other = copy.copy(self)
        other.qkv, other.out = with_change(self.qkv, qkv), with_change(self.out, out)
        other.gate_up, other.down = self.gate_up.adapted(gate_up), with_change(self.down, down)
        return other

    @staticmethod
    def joined(layers: Sequence[LlamaLayer], rows: Sequence[slice]) -> LlamaLayer:
        """One layer with several adapters, those of ``layers``, each for its ``rows``."""
        other = copy.copy(layers[0])
        for name in ("qkv", "out", "down"):
            setattr(other, name, joined_products([getattr(layer, name) for layer in layers], rows))
        other.gate_up = joined_gate_ups([layer.gate_up for layer in layers], rows)
        return other

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side for ``x`` (T, E)."""
        return self.qkv(self.before(x))

    def finish(self, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The layer's output (T, E) from what its attention gave (T, heads * D) and its input."""
        x = self.out.plus(attended, x)
        return self.down.plus(self.gate_up(self.between(x)), x)
