"""Gated DeltaNet layers of Qwen3.5 and Qwen3-Next over packed segments: states come from and go to the store.

T new tokens, H value heads, d and v the dimensions of keys and values, C channels and K width of the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..kv_cache.state_store import Shape
from .delta_rule import DeltaInputs
from .tree_attention import AttentionContext

FAMILIES = frozenset({"Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen3NextForCausalLM"})
"""Networks of transformers whose layers with ``linear_attn`` are run here."""


def has_delta_layers(network: Any) -> bool:
    """Whether a network, or a class of networks, is of one of the families."""
    kind = network if isinstance(network, type) else type(network)
    return kind.__name__ in FAMILIES


def state_shapes(network: Any) -> dict[int, Sequence[Shape]]:
    """The parts of the state of each layer that has one: the heads' states and the inputs of the convolution."""
    shapes: dict[int, Sequence[Shape]] = {}
    for layer in network.model.layers if has_delta_layers(network) else ():
        mixer = getattr(layer, "linear_attn", None)
        if mixer is not None:
            heads = (mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim)
            inputs = (mixer.conv_kernel_size - 1, mixer.conv1d.weight.shape[0])
            shapes[mixer.layer_idx] = ((heads, torch.float32), (inputs, mixer.conv1d.weight.dtype))
    return shapes


def replace_delta_layers(network: Any) -> int:
    """Let the layers run over packed segments, in place; returns the width of their convolution, 0 without any."""
    kernel = 0
    for layer in network.model.layers if has_delta_layers(network) else ():
        mixer = getattr(layer, "linear_attn", None)
        if mixer is not None:
            layer.add_module("linear_attn", DeltaNet(mixer))
            kernel = mixer.conv_kernel_size
    return kernel


class DeltaNet(nn.Module):
    """A layer of transformers, run over packed segments."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self._joint = hasattr(layer, "in_proj_qkvz")  # Qwen3-Next
        taps = layer.conv1d.weight.detach()[:, 0].t()  # (K, C), the last one for the token itself
        self._taps = taps.flip(0).contiguous()
        from transformers.activations import ACT2FN  # noqa: PLC0415  # imports much of transformers

        self._activation = ACT2FN[layer.activation]

    def forward(self, hidden_states: torch.Tensor, *, forest: AttentionContext, **_others: Any) -> torch.Tensor:
        """``hidden_states`` (1, T, E); result (1, T, E)."""
        layer, states = self.layer, forest.states
        assert states is not None  # noqa: S101  # made for models with such layers
        mixed, gate, b, a = self._projected(hidden_states)
        inputs = states.convolution_input(layer.layer_idx, mixed)
        convolved = mixed * self._taps[0]
        for before, taps in zip(states.plan.history, self._taps[1:], strict=True):
            convolved.addcmul_(inputs.index_select(0, before), taps)
        convolved = self._activation(convolved)
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
            DeltaInputs(query * layer.head_k_dim**-0.5, key, value, decay.float(), b.sigmoid().float()),
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
