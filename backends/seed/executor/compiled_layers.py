"""Decoder layers, and products of normed rows, in one call of a kernel each.

T tokens, E hidden size, N inputs of a product.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...models.int8 import Int8Linear
from ...models.int8_network import FromFloat64, RowNorm, ToFloat64
from ...models.low_rank import LowRank, join
from ..kernels.structures import PRODUCTS, CLayer, CLowRank, CPass, PackedLinear
from ..kernels.weight_memory import WeightMemory
from .forward_batch import ForwardBatch
from .llama import JOINT

KEPT_TOKENS = 128
"""Room for passes of so many tokens is kept from one to the next."""


class CompiledLayer:
    """One layer's weights; of a layer over pairs of an embedding and a state, too (EAGLE-3)."""

    def __init__(self, layer: Any, config: Any, memory: WeightMemory, pairs: bool) -> None:
        """``memory`` and ``pairs`` as for :class:`PackedLinear`. The layer's weights are taken over."""
        attention, mlp = layer.self_attn, layer.mlp
        joint = [[linear_of(layer.get_submodule(path)) for path in paths] for paths in JOINT]
        wide = isinstance(attention.q_proj, ToFloat64)
        self.products = [PackedLinear(linears, memory, pairs=pairs) for linears in joint]
        """Of the layer, those of linear layers with the same input as one."""
        self._outs = [[linear.out_features for linear in linears] for linears in joint]
        self._changes: list[PackedLinear] = []
        self.rank = 1
        """The most numbers between the two matrices of a low-rank change."""
        norms = [layer.input_layernorm, layer.post_attention_layernorm]
        norms += [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        norms += [getattr(layer, "hidden_norm", None)]  # of the state of a pair
        self._norms = [None if norm is None else norm_of(norm)[0] for norm in norms]
        self._inner = mlp.gate_proj.out_features
        self._width = config.num_attention_heads * attention.head_dim
        self._hidden = config.hidden_size
        self._c = CLayer(
            *(self._hidden, self._inner, config.num_attention_heads),
            *(config.num_key_value_heads, attention.head_dim, wide, getattr(layer, "norm_before_residual", False)),
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
            "attended": self._width,
            "inner": 2 * self._inner,
            "normed": max(self._hidden, self.products[0].ins),
            "rounded": max(product.rounded for product in self.products),
        }


class CompiledLayers:
    """Layers one after another, in one parallel region."""

    def __init__(self, kernels: ctypes.CDLL, layers: Sequence[CompiledLayer]) -> None:
        self.layers = layers
        self._kernels, self._rooms = kernels, _Rooms()
        self._sizes = {**layers[0].sizes, "low": max(layer.rank for layer in layers)}

    def run(
        self,
        x: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        plan: ForwardBatch,
        entries: Sequence[torch.Tensor],
        *,
        first: int = 0,
        heard: Mapping[int, torch.Tensor] | None = None,
        embedded: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output (T, E) of the last of the layers from ``first`` on that have keys and values in ``entries``.

        ``x`` (T, E), what enters layer ``first``, is overwritten. ``rotation``: cosines and sines. ``heard``: by layer
        what is filled with the states (T, E) that enter it. ``embedded`` (T, E): of a layer over pairs, whose states
        are ``x``. All are contiguous.
        """
        if plan.keys is None:
            raise ValueError("the plan of the pass has no keys by token")
        layers, (cos, sin) = self.layers[first : first + len(entries)], rotation
        room = self._rooms.of(len(x), self._sizes, entries[0].dtype)
        address, size = plan.keys.runs.ctypes.data, plan.keys.runs.strides[0]
        batch = room.batch(
            len(x),
            x=x.data_ptr(),
            embedded=0 if embedded is None else embedded.data_ptr(),
            slots=plan.slots.data_ptr(),
            keys=plan.keys.slots.ctypes.data,
            **{name: address + row * size for row, name in enumerate(("before_at", "before", "own_at", "own"))},
            cosine=cos.data_ptr(),
            sine=sin.data_ptr(),
        )
        addresses = ctypes.c_void_p * len(layers)
        copies = {} if heard is None else {layer: states.data_ptr() for layer, states in heard.items()}
        done = self._kernels.decoder_layers(
            addresses(*(layer.address for layer in layers)),
            addresses(*(entry.data_ptr() for entry in entries)),
            addresses(*(copies.get(layer) for layer in range(first, first + len(layers)))),
            ctypes.c_int32(len(layers)),
            ctypes.byref(batch),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return x


class CompiledProduct:
    """A linear layer of rows that may be normed before."""

    def __init__(self, kernels: ctypes.CDLL, linear: PackedLinear, norm: Any, ins: int) -> None:
        """``norm`` of rows of ``ins`` numbers, a module; None for a product of rows as they are."""
        self.linear = linear
        self._kernels, self._ins, self._rooms = kernels, ins, _Rooms()
        self._weight: torch.Tensor | None = None
        self._epsilon = 0.0
        if norm is not None:
            self._weight, self._epsilon = norm_of(norm)
        self._sizes = {"normed": ins, "rounded": linear.rounded}

    def apart(self) -> CompiledProduct:
        """The same weights, for another thread."""
        other = copy.copy(self)
        other._rooms = _Rooms()
        return other

    def __call__(self, x: torch.Tensor, *, normed: bool = False) -> torch.Tensor:
        """The product (T, out) of rows (T, N), which are ``normed`` already or not."""
        x = x.contiguous()
        room = self._rooms.of(len(x), self._sizes, torch.float32)
        batch = room.batch(len(x), x=x.data_ptr())
        out = torch.empty(len(x), self.linear.outs)
        done = self._kernels.decoder_head(
            ctypes.byref(self.linear.c),
            ctypes.c_void_p(None if normed or self._weight is None else self._weight.data_ptr()),
            ctypes.c_int32(self._ins),
            ctypes.c_double(self._epsilon),
            ctypes.byref(batch),
            ctypes.c_void_p(out.data_ptr()),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return out


class _Rooms:
    """The room of small passes, one for each type of attention's numbers."""

    def __init__(self) -> None:
        self._kept: dict[torch.dtype, _Room] = {}

    def of(self, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> _Room:
        """Room for a pass, its contents undefined; ``sizes`` and ``dtype`` as for :class:`_Room`."""
        if tokens > KEPT_TOKENS:
            return _Room(tokens, sizes, dtype)
        if dtype not in self._kept:
            self._kept[dtype] = _Room(KEPT_TOKENS, sizes, dtype)
        return self._kept[dtype]


class _Room:
    """Memory of a pass over T tokens at most."""

    def __init__(self, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> None:
        """``sizes`` are those of a token; ``dtype`` is that of attention."""
        dtypes = {"queries": dtype, "rounded": torch.int8, "corrections": torch.int32}
        self._tensors = {
            name: torch.empty(tokens, size, dtype=dtypes.get(name, torch.float32))
            for name, size in {**sizes, "largest": 1, "corrections": 1}.items()
        }
        self._addresses = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}

    def batch(self, tokens: int, **addresses: int) -> CPass:
        """The pass with its room, and the addresses of what it reads. Valid as long as the room."""
        return CPass(tokens=tokens, threads=torch.get_num_threads(), **self._addresses, **addresses)


def linear_of(module: Any) -> nn.Linear | Int8Linear:
    """A linear layer, without what converts its numbers."""
    linear: nn.Linear | Int8Linear = module.linear if isinstance(module, (ToFloat64, FromFloat64)) else module
    return linear


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
