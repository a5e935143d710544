"""Passes of an EAGLE-3 head over packed forests, with the attention of the engine.

T pairs of a pass, R wanted ones, E hidden size, H query heads, h key-value heads, D head dimension, W draft vocabulary,
V vocabulary of the target.
"""

from __future__ import annotations

import torch

from ...executor.attention_rule import AttentionRule
from ...executor.forward_batch import ForwardBatch
from ...executor.packed_linear import make_product
from ...executor.rotation import Rotation, turn
from ...executor.tree_attention import AttentionContext, attend_forest
from ...kv_cache.pool import SlotPool
from .draft_vocabulary import DraftVocabulary
from .eagle3_network import Eagle3Network
from .head_decoder import PairDecoder


class Eagle3Decoder(PairDecoder):
    """An EAGLE-3 head's sizes, positions and vocabulary."""

    def __init__(self, network: Eagle3Network, ids: torch.Tensor, vocabulary: int) -> None:
        """``ids`` (W,) of the draft tokens among the ``vocabulary`` of the target. The weights are taken over."""
        layer = network.config.layer
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self._heads, kv_heads, self._dim = layer.num_attention_heads, layer.num_key_value_heads, layer.head_dim
        self.kinds = ((kv_heads, self._dim),)
        self.width = layer.hidden_size
        self.shape = f"{layer.hidden_size}, {layer.intermediate_size}, {self._heads}/{kv_heads}, {len(ids)} tokens"
        self._rotation = Rotation(network.rotary)
        self._vocabulary = DraftVocabulary(ids.to(network.fc.weight.device), vocabulary)


class PlainEagle3Decoder(Eagle3Decoder):
    """Passes in torch's operations."""

    def __init__(self, network: Eagle3Network, ids: torch.Tensor, vocabulary: int) -> None:
        """See :class:`Eagle3Decoder`."""
        super().__init__(network, ids, vocabulary)
        attention, mlp = network.midlayer.self_attn, network.midlayer.mlp
        self._input_norm, self._norm = network.input_norm, network.norm
        self._norms_output = network.config.norm_output
        self._pair = network.midlayer.project
        self._between = network.midlayer.post_attention_layernorm
        self._fc = make_product([network.fc])
        self._qkv = make_product([attention.q_proj, attention.k_proj, attention.v_proj])
        self._out = make_product([attention.o_proj])
        self._gate, self._up = make_product([mlp.gate_proj]), make_product([mlp.up_proj])
        self._down = make_product([mlp.down_proj])
        self._head = make_product([network.lm_head])
        self._rule = AttentionRule(attention.scaling)

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """See :meth:`Eagle3Network.fuse`."""
        return self._fc(states if self._input_norm is None else self._input_norm(states))

    def through(self, embedded: torch.Tensor, hidden: torch.Tensor, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        tokens, heads, ((kv_heads, dim),) = len(embedded), self._heads, self.kinds
        both, residual = self._pair(embedded, hidden)
        cos, sin = self._rotation(embedded, plan.positions, embedded.dtype)  # (T, 1, D)
        qkv = self._qkv(both).view(tokens, heads + 2 * kv_heads, dim)
        turn(qkv[:, : heads + kv_heads], cos, sin)
        new = qkv[:, heads:].view(tokens, 2, kv_heads, dim)
        attended = attend_forest(qkv[:, :heads], new, 0, AttentionContext(plan, pool), self._rule)
        x = self._out.plus(attended.reshape(tokens, heads * dim), residual)
        y = self._between(x)
        x = self._down.plus(self._up.times(y, self._gate.silu(y)), x)
        return self._norm(x) if self._norms_output else x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        return self._vocabulary.widened(self._head(x if self._norms_output else self._norm(x)))
