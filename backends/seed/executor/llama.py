"""A Llama decoder without transformers' overhead."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...models.int8 import Int8Linear, is_plain
from ...models.int8_attention import round_heads
from ...models.int8_network import SILU, RowNorm, RowSilu
from ...models.low_rank import LowRank, join
from ..kv_cache.pool import SlotPool
from .adapted_product import AdaptedProduct
from .attention_rule import AttentionRule
from .forward_batch import ForwardBatch
from .int8_layer import Int8Layer
from .int8_product import Int8Product
from .packed_linear import Product, make_product
from .tree_attention import AttentionContext, attend_forest

AnyProduct = Product | Int8Product | AdaptedProduct

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


class _Layer:
    """One decoder layer's weights, as :class:`LlamaDecoder` uses them."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before = _norm(layer.input_layernorm)
        self.qkv: AnyProduct = make_product([attention.q_proj, attention.k_proj, attention.v_proj])
        self.q_norm = _norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.k_norm = _norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self.scale, self.wide = float(attention.scaling), False
        self.out: AnyProduct = make_product([attention.o_proj])
        self.between = _norm(layer.post_attention_layernorm)
        self.gate: AnyProduct = make_product([mlp.gate_proj])
        self.up: AnyProduct = make_product([mlp.up_proj])
        self.down: AnyProduct = make_product([mlp.down_proj])
        layer.self_attn = layer.mlp = None  # frees the plain weights

    def adapted(self, changes: Sequence[Sequence[LowRank | None]]) -> _Layer:
        """The layer with low-rank changes of its products, over the same weights."""
        qkv, (out,), (gate, up), (down,) = changes
        other = copy.copy(self)
        other.qkv = _adapted(self.qkv, qkv)
        other.out, other.down = _adapted(self.out, [out]), _adapted(self.down, [down])
        other.gate, other.up = _adapted(self.gate, [gate]), _adapted(self.up, [up])
        return other

    @staticmethod
    def joined(layers: Sequence[_Layer], rows: Sequence[slice]) -> _Layer:
        """One layer with several adapters, those of ``layers``, each for its ``rows``."""
        other = copy.copy(layers[0])
        for name in ("qkv", "out", "gate", "up", "down"):
            setattr(other, name, _joined([getattr(layer, name) for layer in layers], rows))
        return other

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side for ``x`` (T, E)."""
        return self.qkv(self.before(x))

    def finish(self, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The layer's output (T, E) from what its attention gave (T, heads * D) and its input."""
        x = self.out.plus(attended, x)
        y = self.between(x)
        return self.down.plus(self.up.times(y, self.gate.silu(y)), x)


class LlamaDecoder:
    """Llama, Mistral, Qwen2, Qwen3: pre-norm, rotary positions, gated SiLU."""

    def __init__(self, network: Any, windows: Sequence[int | None]) -> None:
        """The network's weights are taken over; ``windows`` are the sliding windows of its layers."""
        model, config = network.model, network.config
        self._windows = windows
        self._embed = model.embed_tokens
        self._rotation = Rotation(model.rotary_emb)
        self._layers = [Int8Layer(layer) if Int8Layer.fits(layer) else _Layer(layer) for layer in model.layers]
        self.depth = len(self._layers)
        """Number of layers."""
        self._context: int | None = config.max_position_embeddings
        self._norm = _norm(model.norm)
        self._head = make_product([network.lm_head])
        if not config.tie_word_embeddings or isinstance(network.lm_head, Int8Linear):
            network.lm_head = None  # frees the plain weights
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads

    @property
    def window(self) -> int | None:
        """The longest sliding window, where all layers have one."""
        windows = [window for window in self._windows[: self.depth] if window is not None]
        return max(windows) if len(windows) == self.depth else None

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
        plain = all(is_plain(linear) or isinstance(linear, Int8Linear) for linear in [*linears, network.lm_head])
        return plain and all(_is_silu(mlp.act_fn) for _, mlp in attentions)

    def __call__(self, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Logits (R, V)."""
        x = self.through(self.embed(plan), plan, pool, 0, self.depth)
        if len(plan.wanted) < len(x):
            x = x.index_select(0, plan.wanted)
        return self.logits(x)

    def adapted(self, layers: Mapping[str, LowRank]) -> LlamaDecoder:
        """The decoder with low-rank changes of its linear layers by path, over the same weights, none in 8 bits."""
        other = copy.copy(self)
        plain = [layer for layer in self._layers if isinstance(layer, _Layer)]
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
        joint._layers = [_Layer.joined(layers, rows) for layers in zip(*stacks, strict=True)]
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
        return self._norm(x)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`.hf_model.Decoder`."""
        return self._head(x)

    def through(self, x: torch.Tensor, plan: ForwardBatch, pool: SlotPool, first: int, last: int) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1`` for the input ``x`` (T, E) of layer ``first``."""
        forest = AttentionContext(plan, pool)
        tokens, heads, kv_heads = len(x), self._heads, self._kv_heads
        cos, sin = self._rotation(x, plan.positions, pool.entries[first].dtype)  # (T, 1, D)
        dim = cos.shape[2]
        half = dim // 2
        for index in range(first, last):
            layer = self._layers[index]
            qkv = layer.project(x).view(tokens, heads + 2 * kv_heads, dim)
            rotated = qkv[:, : heads + kv_heads]  # (T, H + h, D)
            if layer.q_norm is not None and layer.k_norm is not None:
                torch.cat((layer.q_norm(rotated[:, :heads]), layer.k_norm(rotated[:, heads:])), dim=1, out=rotated)
            swapped = rotated.roll(half, dims=2)
            rotated.mul_(cos).addcmul_(swapped, sin)
            if layer.wide:
                qkv = round_heads(qkv)
            new = qkv[:, heads:].view(tokens, 2, kv_heads, dim)  # keys and values lie side by side
            rule = AttentionRule(layer.scale, self._windows[index])
            attended = attend_forest(qkv[:, :heads], new, index, forest, rule)
            x = layer.finish(attended.reshape(tokens, heads * dim), x)
        return x


class Rotation:
    """Rotary positions, kept in a table where they do not depend on the length of the text."""

    def __init__(self, rotary: Any) -> None:
        self._rotary = rotary
        self.fixed = getattr(rotary, "rope_type", "dynamic") not in ("dynamic", "longrope")
        """Whether a position's angles do not depend on the length of the text."""
        self._table: torch.Tensor | None = None  # (positions, 2, 1, D)
        self._whole = False  # no position is beyond the table

    def fix(self, positions: int, like: torch.Tensor, dtype: torch.dtype) -> bool:
        """Compute so many positions in the dtype of ``like`` (..., E), so that none has to be looked at later.

        False where they depend on the length of the text, or have no end.
        """
        if not self.fixed or not positions:
            return False
        known = torch.arange(positions, device=like.device)[None]
        self._table, self._whole = self._compute(like[:1], known).to(dtype), True
        return True

    def __call__(
        self, x: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines (T, 1, D) for ``positions`` (1, T), computed in the dtype of ``x``."""
        if not self.fixed:
            return self._compute(x, positions).to(dtype).unbind(1)  # type: ignore[return-value]  # two
        table = self.table(0 if self._whole else int(positions.max()), x, dtype)
        return table.index_select(0, positions[0]).unbind(1)  # type: ignore[return-value]  # two

    def table(self, last: int, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Cosines and signed sines (positions, 2, 1, D) of all positions up to ``last`` and perhaps more.

        Computed in the dtype of ``x`` (..., E); they must not depend on the length of the text, see :attr:`fixed`.
        """
        if self._table is None or last >= len(self._table):
            known = torch.arange(max(256, 2 * last), device=x.device)[None]
            self._table = self._compute(x, known).to(dtype)
        return self._table

    def _compute(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = self._rotary(x[None], positions)  # (1, T, D)
        half = cos.shape[2] // 2
        signed = torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=1)
        return torch.stack((cos[0], signed), dim=1)[:, :, None]


def _norm(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The layer's root-mean-square norm, x / sqrt(mean(x^2) + epsilon) * weight, in half of torch's operations."""
    if isinstance(module, RowNorm):
        return module
    if module.weight.dtype == torch.float64:  # transformers computes norms in float32 then, and so must we
        return module  # type: ignore[no-any-return]
    dtype, root = module.weight.dtype, math.sqrt(len(module.weight))
    weight = module.weight.detach().float() * root
    offset = weight.new_tensor(root * math.sqrt(module.variance_epsilon))

    def norm(x: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (..., 1)
        return x.div(length.hypot_(offset)).mul_(weight).to(dtype)

    return norm


def _adapted(product: AnyProduct, parts: Sequence[LowRank | None]) -> AnyProduct:
    assert not isinstance(product, AdaptedProduct)  # noqa: S101  # the layers of a model alone are adapted
    low = join(parts, product.sizes)
    return product if low is None else AdaptedProduct(product, [(slice(None), low)])


def _joined(products: Sequence[AnyProduct], rows: Sequence[slice]) -> AnyProduct:
    """One product with several adapters, each for some rows."""
    plain = [product.product if isinstance(product, AdaptedProduct) else product for product in products]
    changes = [
        (own, low)
        for product, own in zip(products, rows, strict=True)
        if isinstance(product, AdaptedProduct)
        for _, low in product.changes
    ]
    return AdaptedProduct(plain[0], changes) if changes else plain[0]


def _is_silu(activation: nn.Module) -> bool:
    return type(activation).__name__ in SILU
