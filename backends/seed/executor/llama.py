"""A Llama decoder without transformers' overhead."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...models.int4 import Int4Linear
from ...models.int8 import Int8Linear, is_plain
from ...models.int8_attention import round_heads
from ...models.int8_network import SILU, RowSilu
from ...models.low_rank import LowRank
from ..kv_cache.pool import SlotPool
from .attention_rule import AttentionRule
from .forward_batch import ForwardBatch
from .fused_layers import fused_layers, fused_norm, why_plain
from .int8_layer import Int8Layer
from .llama_layer import LlamaLayer, changes_of
from .packed_linear import make_product
from .rms_norm import make_norm
from .rotation import Rotation, turn
from .tree_attention import AttentionContext, attend_forest


class LlamaDecoder:
    """Llama, Mistral, Qwen2, Qwen3: pre-norm, rotary positions, gated SiLU."""

    def __init__(self, network: Any, windows: Sequence[int | None]) -> None:
        """The network's weights are taken over; ``windows`` are the sliding windows of its layers."""
        model, config = network.model, network.config
        self._windows = windows
        self._embed = model.embed_tokens
        self._rotation = Rotation(model.rotary_emb)
        self._layers = [Int8Layer(layer) if Int8Layer.fits(layer) else LlamaLayer(layer) for layer in model.layers]
        self.depth = len(self._layers)
        """Number of layers."""
        self._context: int | None = config.max_position_embeddings
        self._norm = make_norm(model.norm)
        self._head = make_product([network.lm_head])
        if not config.tie_word_embeddings or isinstance(network.lm_head, Int8Linear):
            network.lm_head = None  # frees the plain weights
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._fused = False

    @property
    def window(self) -> int | None:
        """The longest sliding window, where all layers have one."""
        windows = [window for window in self._windows[: self.depth] if window is not None]
        return max(windows) if len(windows) == self.depth else None

    def fuse(self) -> str | None:
        """Compute norms, rotation and gates of all passes by kernels in Triton; None, or why they stay plain."""
        why = why_plain(self._layers, self._norm)
        self._fused = why is None
        return why

    @staticmethod
    def fits(network: Any) -> bool:
        """Whether all layers have the parts that are expected, and no others that matter."""
        if all(Int8Layer.fits(layer) for layer in network.model.layers):
            return all(
                isinstance(layer.mlp.act_fn, RowSilu) or _is_silu(layer.mlp.act_fn) for layer in network.model.layers
            )
        attentions = [(layer.self_attn, layer.mlp) for layer in network.model.layers]
        linears = [
            getattr(module, name, None)
            for attention, mlp in attentions
            for module, names in ((attention, "q_proj k_proj v_proj o_proj"), (mlp, "gate_proj up_proj down_proj"))
            for name in names.split()
        ]
        linears.append(network.lm_head)
        known = all(is_plain(linear) or isinstance(linear, (Int4Linear, Int8Linear)) for linear in linears)
        return known and all(_is_silu(mlp.act_fn) for _, mlp in attentions)

    def __call__(self, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Logits (R, V)."""
        x = self.through(self.embed(plan), plan, pool, 0, self.depth)
        if len(plan.wanted) < len(x):
            x = x.index_select(0, plan.wanted)
        return self.logits(x)

    def adapted(self, layers: Mapping[str, LowRank]) -> LlamaDecoder:
        """The decoder with low-rank changes of its linear layers by path, over the same weights, none in 8 bits."""
        other = copy.copy(self)
        plain = [layer for layer in self._layers if isinstance(layer, LlamaLayer)]
        assert len(plain) == len(self._layers)  # noqa: S101  # adapters and 8 bits exclude each other
        other._layers = [layer.adapted(changes_of(layers, index)) for index, layer in enumerate(plain)]
        return other

    def joined(self, others: Sequence[LlamaDecoder], rows: Sequence[slice]) -> LlamaDecoder:
        """The decoder of a :class:`.joint_batch.JointBatch`: its first rows are of this adapter, the next of others.

        ``others`` are over the same weights; ``rows`` are those of each, this one first.
        """
        if all(other is self for other in others):
            return self
        joint = copy.copy(self)
        stacks = [decoder._layers for decoder in (self, *others)]
        joint._layers = [LlamaLayer.joined(layers, rows) for layers in zip(*stacks, strict=True)]
        return joint

    def fix_positions(self, dtype: torch.dtype) -> bool:
        """Keep the positions of the whole context in memory; False where they depend on the length of the text."""
        return self._rotation.fix(self._context or 0, self._embed.weight, dtype)

    def with_states(
        self, plan: ForwardBatch, pool: SlotPool, layers: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See :class:`.hf_model.Decoder`."""
        x, first = self.embed(plan), 0
        states: dict[int, torch.Tensor] = {}
        for layer in sorted(set(layers)):
            if layer > first:
                x, first = self.through(x, plan, pool, first, layer), layer
            states[layer] = x.clone() if layer < self.depth else self.normed(x)  # compiled layers overwrite it
        if first < self.depth:
            x = self.through(x, plan, pool, first, self.depth)
        if len(plan.wanted) < len(x):
            x = x.index_select(0, plan.wanted)
        return self.logits(x), [states[layer] for layer in layers]

    def embed(self, plan: ForwardBatch) -> torch.Tensor:
        """What enters the first layer (T, E)."""
        x: torch.Tensor = self._embed(plan.tokens[0])
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (R, V) of what left a layer (R, E)."""
        return self.head(self.normed(x))

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        """What enters the output head (R, E), of what left a layer."""
        return fused_norm(x, self._norm) if self._fused else self._norm(x)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`.hf_model.Decoder`."""
        return self._head(x)

    def through(self, x: torch.Tensor, plan: ForwardBatch, pool: SlotPool, first: int, last: int) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1`` for the input ``x`` (T, E) of layer ``first``."""
        forest = AttentionContext(plan, pool)
        tokens, heads, kv_heads = len(x), self._heads, self._kv_heads
        cos, sin = self._rotation(x, plan.positions, pool.entries[first].dtype)  # (T, 1, D)
        dim = cos.shape[2]
        rules = [AttentionRule(self._layers[index].scale, self._windows[index]) for index in range(first, last)]
        if self._fused:
            return fused_layers(x, self._layers[first:last], rules, first, forest, (cos, sin))
        for index, rule in enumerate(rules, first):
            layer = self._layers[index]
            qkv = layer.project(x).view(tokens, heads + 2 * kv_heads, dim)
            rotated = qkv[:, : heads + kv_heads]  # (T, H + h, D)
            if layer.q_norm is not None and layer.k_norm is not None:
                torch.cat((layer.q_norm(rotated[:, :heads]), layer.k_norm(rotated[:, heads:])), dim=1, out=rotated)
            turn(rotated, cos, sin)
            if layer.wide:
                qkv = round_heads(qkv)
            new = qkv[:, heads:].view(tokens, 2, kv_heads, dim)  # keys and values lie side by side
            attended = attend_forest(qkv[:, :heads], new, index, forest, rule)
            x = layer.finish(attended.reshape(tokens, heads * dim), x)
        return x


def _is_silu(activation: nn.Module) -> bool:
    return type(activation).__name__ in SILU
