"""Passes of a DFlash head over blocks, with the attention of the engine.

T tokens of all blocks of a pass, C tokens of contexts, R wanted ones, E hidden size, H query heads, h key-value heads,
D head dimension, W draft vocabulary, V vocabulary of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ...executor.attention_rule import AttentionRule
from ...executor.forward_batch import ForwardBatch
from ...executor.packed_linear import make_product
from ...executor.rotation import Rotation
from ...executor.tree_attention import AttentionContext, attend_forest
from ...kv_cache.pool import SlotPool
from .dflash_config import BlockAttention, DFlashConfig
from .dflash_network import DFlashNetwork
from .draft_vocabulary import DraftVocabulary
from .head_decoder import HeadDecoder

Project = Callable[[torch.Tensor], torch.Tensor]
"""Logits (R, W) of normed outputs (R, E)."""


class DFlashDecoder(HeadDecoder):
    """A DFlash head's weights."""

    def __init__(self, network: DFlashNetwork, vocabulary: DraftVocabulary, target: Project) -> None:
        """``target``: its output head, for a head without one. The weights are taken over."""
        config, layer = network.config, network.config.layer
        self.config: DFlashConfig = config
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self._heads, self._kv_heads, self._dim = layer.num_attention_heads, layer.num_key_value_heads, layer.head_dim
        self.kinds = ((self._kv_heads, self._dim),) * len(config.attention)
        self.width = layer.hidden_size
        self.shape = (
            f"{len(config.attention)} layers, {layer.hidden_size}, {layer.intermediate_size}, "
            f"{self._heads}/{self._kv_heads}, {config.draft_vocabulary} tokens, blocks of {config.block}"
        )
        self._fc, self._hidden_norm = make_product([network.fc]), network.hidden_norm
        self._rotation = Rotation(network.rotary)
        self._layers = [
            _LayerWeights(weights, attention, self._dim)
            for weights, attention in zip(network.layers, config.attention, strict=True)
        ]
        self._norm, self._vocabulary = network.norm, vocabulary
        self._project: Project = target if network.lm_head is None else make_product([network.lm_head])

    @property
    def has_causal_layers(self) -> bool:
        """Whether the tokens of a block see none after them in some layer."""
        return any(layer.causal for layer in self._layers)

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """See :class:`HeadDecoder`."""
        fused: torch.Tensor = self._hidden_norm(self._fc(states))
        return fused

    def keep(self, states: torch.Tensor, positions: torch.Tensor, slots: torch.Tensor, pool: SlotPool) -> None:
        """Store the keys and values of contexts, from their fused states (C, E), positions (1, C) and slots (C,)."""
        cos, sin = self._rotation(states, positions, states.dtype)  # (C, 1, D)
        for layer, entries in zip(self._layers, pool.entries, strict=True):
            new = layer.keys_values(states).view(len(states), 2, self._kv_heads, self._dim)
            new[:, 0] = _rotated(layer.k_norm(new[:, 0]), cos, sin)
            entries.index_copy_(0, slots, new)

    def through(self, x: torch.Tensor, plan: ForwardBatch, causal: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """The output (T, E) for embeddings (T, E); ``causal`` is the plan of layers that look back only."""
        tokens, heads, kv_heads, dim = len(x), self._heads, self._kv_heads, self._dim
        cos, sin = self._rotation(x, plan.positions, x.dtype)  # (T, 1, D)
        for index, layer in enumerate(self._layers):
            y = layer.before(x)
            query = _rotated(layer.q_norm(layer.query(y).view(tokens, heads, dim)), cos, sin)
            new = layer.keys_values(y).view(tokens, 2, kv_heads, dim)
            new[:, 0] = _rotated(layer.k_norm(new[:, 0]), cos, sin)
            context = AttentionContext(causal if layer.causal else plan, pool)
            attended = attend_forest(query, new, index, context, layer.rule)
            x = layer.out.plus(attended.reshape(tokens, heads * dim), x)
            y = layer.between(x)
            x = layer.down.plus(layer.up.times(y, layer.gate.silu(y)), x)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) of an output (R, E); minus infinity where a token cannot be drafted."""
        logits, cap = self._project(self._norm(x)) * self.config.multiplier, self.config.softcap
        return self._vocabulary.widened(logits if cap is None else cap * (logits / cap).tanh())


class _LayerWeights:
    def __init__(self, layer: Any, attention: BlockAttention, dim: int) -> None:
        own, mlp = layer.self_attn, layer.mlp
        self.causal = attention.causal
        self.rule = AttentionRule(1 / math.sqrt(dim), attention.window)
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.q_norm, self.k_norm = own.q_norm, own.k_norm
        self.query = make_product([own.q_proj])
        self.keys_values = make_product([own.k_proj, own.v_proj])
        self.out = make_product([own.o_proj])
        self.gate, self.up = make_product([mlp.gate_proj]), make_product([mlp.up_proj])
        self.down = make_product([mlp.down_proj])


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries or keys (T, heads, D) at their positions."""
    return x * cos + x.roll(x.shape[2] // 2, dims=2) * sin
