"""One layer of the Llama family as the compiled kernels take it."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...models.gguf_weights import GgufWeights
from ...models.int8_attention import Int8Attention
from ...models.int8_network import RowNorm
from ...models.low_rank import LowRank, join
from ..kernels.structures import PRODUCTS, CLayer, CLowRank, PackedLinear
from ..kernels.weight_memory import WeightMemory
from .llama_layer import JOINT


@dataclass(frozen=True, slots=True)
class Packer:
    """Lays out the weights of linear layers, see :class:`PackedLinear`."""

    memory: WeightMemory
    pairs: bool = False
    stored: GgufWeights | None = None
    prefix: str = ""
    """Of the layers' paths."""

    def pack(self, module: nn.Module, paths: Sequence[str]) -> PackedLinear:
        """The layers of a module, which have the same input."""
        linears: list[Any] = [module.get_submodule(path) for path in paths]
        blocks = [
            self.stored.blocks(self.prefix + path, linear.weight.detach())
            for path, linear in zip(paths, linears, strict=True)
            if self.stored is not None and isinstance(linear, nn.Linear)
        ]
        return PackedLinear(linears, self.memory, pairs=self.pairs, blocks=blocks)


class CompiledLayer:
    """One layer's weights; of a layer over pairs of an embedding and a state, too (EAGLE-3)."""

    def __init__(self, layer: Any, config: Any, packer: Packer) -> None:
        """The layer's weights are taken over."""
        attention, mlp = layer.self_attn, layer.mlp
        eights = isinstance(attention, Int8Attention)
        self.products = [packer.pack(layer, paths) for paths in JOINT]
        """Of the layer, those of linear layers with the same input as one."""
        self._outs = [[layer.get_submodule(path).out_features for path in paths] for paths in JOINT]
        self._changes: list[PackedLinear] = []
        self.rank = 1
        """The most numbers between the two matrices of a low-rank change."""
        norms = [layer.input_layernorm, layer.post_attention_layernorm]
        norms += [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        norms += [getattr(layer, "hidden_norm", None)]  # of the state of a pair
        self._norms = [None if norm is None else norm_of(norm)[0] for norm in norms]
        self._inner = mlp.gate_proj.out_features
        self._width = config.num_attention_heads * attention.head_dim
        self._heads, self._hidden = config.num_attention_heads, config.hidden_size
        self._c = CLayer(
            *(self._hidden, self._inner, self._heads),
            *(config.num_key_value_heads, attention.head_dim, eights, getattr(layer, "norm_before_residual", False)),
            *(float(attention.scaling), norm_of(norms[0])[1]),
            *(None if weight is None else weight.data_ptr() for weight in self._norms),
            *(product.c for product in self.products),
        )
        self.address = ctypes.addressof(self._c)
        layer.self_attn = layer.mlp = None  # frees the plain weights

    def adapted(self, changes: Sequence[Sequence[LowRank | None]], memory: WeightMemory) -> CompiledLayer:
        """The layer with low-rank changes of its products, over the same weights."""
        other = copy.copy(self)
        other._c = CLayer.from_buffer_copy(self._c)
        other.address = ctypes.addressof(other._c)
        other._changes = []
        for product, parts, outs in zip(PRODUCTS, changes, self._outs, strict=True):
            low = join(parts, outs)
            if low is not None:
                down, up = (PackedLinear([_plain(matrix)], memory) for matrix in (low.down, low.up))
                other._changes += (down, up)
                other.rank = max(other.rank, down.outs)
                setattr(other._c, f"{product}_low", CLowRank(down.c, up.c))
        return other

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of a token that the layers of a pass compute."""
        return {
            "projected": self.products[0].outs,
            "queries": self._width,
            "scales": self._heads,
            "attended": self._width,
            "inner": 2 * self._inner,
            "normed": max(self._hidden, self.products[0].ins),
            "rounded": max(product.rounded for product in self.products),
            "totals": max(product.totals for product in self.products),
        }


def norm_of(module: Any) -> tuple[torch.Tensor, float]:
    """Weight (E,) and epsilon of a root-mean-square norm."""
    if isinstance(module, RowNorm):
        return module.weight, module.epsilon
    epsilon: Any = module.eps if isinstance(module, nn.RMSNorm) else module.variance_epsilon
    return module.weight.detach().float().contiguous(), float(epsilon)


def _plain(weight: torch.Tensor) -> nn.Linear:
    """A linear layer of a weight (out, in)."""
    outs, ins = weight.shape
    linear = nn.Linear(ins, outs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear
