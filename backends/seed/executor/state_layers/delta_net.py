"""Gated DeltaNet layers of Qwen3.5 and Qwen3-Next.

T new tokens, H value heads, d and v the dimensions of keys and values, C channels of the convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from ...kv_cache.state_store import Shape
from ..tree_attention import AttentionContext
from .base import StateLayer
from .convolution import CausalConvolution
from .delta_rule import DeltaRule


class DeltaNet(StateLayer):
    """A layer of transformers, run over packed segments."""

    networks = frozenset({"Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen3NextForCausalLM"})
    attribute = "linear_attn"
    kind = "linear_attention"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.layer = layer
        self._joint = hasattr(layer, "in_proj_qkvz")  # Qwen3-Next
        self._convolution = CausalConvolution(layer.conv1d)
        from transformers.activations import ACT2FN  # noqa: PLC0415  # imports much of transformers

        self._activation = ACT2FN[layer.activation]

    @staticmethod
    def matrices(layer: Any) -> Shape:
        """See :class:`StateLayer`."""
        return (layer.num_v_heads, layer.head_k_dim, layer.head_v_dim), torch.float32

    def forward(self, hidden_states: torch.Tensor, *, forest: AttentionContext, **_others: Any) -> torch.Tensor:
        """``hidden_states`` (1, T, E); result (1, T, E)."""
        layer, states = self.layer, forest.states
        assert states is not None  # noqa: S101  # made for models with such layers
        mixed, gate, b, a = self._projected(hidden_states)
        convolved = self._activation(self._convolution(mixed, states, layer.layer_idx))
        query, key, value = torch.split(convolved, [layer.key_dim, layer.key_dim, layer.value_dim], dim=-1)
        repeats = layer.num_v_heads // layer.num_k_heads
        query, key = (
            _normalized(part.view(len(part), layer.num_k_heads, layer.head_k_dim)).repeat_interleave(repeats, dim=1)
            for part in (query, key)
        )
        decay = -layer.A_log.float().exp() * F.softplus(a.float() + layer.dt_bias)
        value = value.reshape(len(value), layer.num_v_heads, layer.head_v_dim).float()
        out = states.run(
            layer.layer_idx,
            DeltaRule(query * layer.head_k_dim**-0.5, key, value, decay.float(), b.sigmoid().float()),
        )
        out = layer.norm(out.to(hidden_states.dtype).flatten(0, 1), gate.reshape(-1, layer.head_v_dim))
        result: torch.Tensor = layer.out_proj(out.view(*hidden_states.shape[:2], -1))
        return result

    def _projected(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs (T, C) of the convolution, output gates (T, H, v), and what betas and decays follow from, (T, H)."""
        layer = self.layer
        if self._joint:
            both, rates = layer.in_proj_qkvz(hidden), layer.in_proj_ba(hidden)
            query, key, value, gate, b, a = layer.fix_query_key_value_ordering(both, rates)
            mixed = torch.cat([part.flatten(2) for part in (query, key, value)], dim=-1)
            return mixed[0], gate[0], b[0], a[0]
        gate = layer.in_proj_z(hidden)
        return layer.in_proj_qkv(hidden)[0], gate[0], layer.in_proj_b(hidden)[0], layer.in_proj_a(hidden)[0]


def _normalized(part: torch.Tensor) -> torch.Tensor:
    """Rows of length 1 in float32."""
    wide = part.float()
    return wide * torch.rsqrt((wide * wide).sum(dim=-1, keepdim=True) + 1e-6)
