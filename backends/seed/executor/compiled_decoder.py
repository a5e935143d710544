"""A decoder of the Llama family in one call of a kernel per pass (:mod:`treeagent.backends.seed.kernels`).

All layers follow one another in one parallel region, and attention reads keys and values in place, for the tokens of
any chain or tree. A row's numbers do not depend on the rows beside it, in float32
as well as in 8 bits. T tokens, E hidden size, I inner size, H query heads, D head dimension, V vocabulary.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...models.int8 import Int8Linear
from ...models.int8_attention import Int8Attention
from ...models.int8_network import SILU, RowNorm
from ...models.low_rank import LowRank, join
from ..kernels import library
from ..kernels.structures import PRODUCTS, CLayer, CLowRank, CPass, PackedLinear
from ..kernels.weight_memory import WeightMemory
from ..kv_cache.pool import SlotPool
from .forward_batch import ForwardBatch
from .llama import JOINT, LlamaDecoder, Rotation, changes_of

MOST_DIM = 512
"""Largest head dimension of the kernels."""
KEPT_TOKENS = 128
"""Room for passes of so many tokens is kept from one to the next."""


class CompiledDecoder(LlamaDecoder):
    """Llama, Mistral, Qwen2, Qwen3 in float32, with 8-bit layers, or with weights in bfloat16.

    With weights in bfloat16 all else is float32, keys and values too. Where the processor multiplies in bfloat16, rows
    are rounded to it in front of every product, else weights are widened as they are read. Sums are in float32 in the
    order of the inputs, so that a row stands alone.
    """

    def __init__(self, network: Any, kernels: ctypes.CDLL) -> None:
        """``kernels`` as :meth:`refusal` accepts them. The network's weights are taken over."""
        model, config = network.model, network.config
        self._kernels = kernels
        self._embed = model.embed_tokens
        self._rotation = Rotation(model.rotary_emb)
        pairs, memory = library.multiplies_bfloat16(kernels), WeightMemory()
        self.kernels = "compiled"
        """What computes passes."""
        if self._embed.weight.dtype == torch.bfloat16:
            self.kernels += " (products in bfloat16)" if pairs else " (bfloat16 widened to float32)"
        self._stack = [_CompiledLayer(layer, config, memory, pairs) for layer in model.layers]
        self.depth = len(self._stack)
        self._weight, self._epsilon = _norm(model.norm)
        self._packed = PackedLinear([network.lm_head], memory, pairs=pairs)
        self._rooms: dict[tuple[str, torch.dtype], _Room] = {}
        if not config.tie_word_embeddings or isinstance(network.lm_head, Int8Linear):
            network.lm_head = None

    @property
    def in_blocks(self) -> float:
        """The share of the linear layers' weights that are kept as integers with a scale by block."""
        products = [product for layer in self._stack for product in layer.products] + [self._packed]
        sizes = [(product.outs * product.ins, product.in_blocks) for product in products]
        return sum(size for size, blocks in sizes if blocks) / sum(size for size, _ in sizes)

    @staticmethod
    def refusal(network: Any, kernels: ctypes.CDLL) -> str | None:
        """Why the kernels do not run a network that :class:`LlamaDecoder` runs; None where they do."""
        layers = network.model.layers
        linears = [module for module in network.modules() if isinstance(module, (nn.Linear, Int8Linear))]
        eights = {isinstance(linear, Int8Linear) for linear in linears}
        attention = layers[0].self_attn
        dim = int(attention.head_dim)
        dtype = network.model.embed_tokens.weight.dtype
        if model_device(network).type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
            return "weights that are not in float32, bfloat16 or 8 bits on the CPU"
        if dtype == torch.bfloat16 and True in eights:
            return "8-bit layers beside bfloat16"
        if kernels.instructions() < 1:
            return "a processor without AVX-512"
        if dim % 8 or dim > MOST_DIM:
            return f"a head dimension of {dim}"
        if True in eights and kernels.instructions() < 2:
            return "no 8-bit dot products of the processor (AVX512_VNNI)"
        if any(type(layer.mlp.act_fn).__name__ not in (*SILU, "RowSilu") for layer in layers):
            return "an activation other than SiLU"
        return None

    def adapted(self, layers: Mapping[str, LowRank]) -> CompiledDecoder:
        """See :class:`LlamaDecoder`; ``layers`` are in float32."""
        other = copy.copy(self)
        other._rooms = {}  # other sizes, and maybe another thread
        memory = WeightMemory()
        other._stack = [layer.adapted(changes_of(layers, index), memory) for index, layer in enumerate(self._stack)]
        return other

    def embed(self, plan: ForwardBatch) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return super().embed(plan).float()

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return self._logits(x, self._weight.data_ptr())

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return F.rms_norm(x, self._weight.shape, self._weight, self._epsilon)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`.hf_model.Decoder`."""
        return self._logits(x, None)

    def _logits(self, x: torch.Tensor, weight: int | None) -> torch.Tensor:
        """Logits (R, V) of (R, E), which are normed first where there is the address of a ``weight`` (E,)."""
        rows, hidden = x.shape
        x = x.contiguous()
        room = self._room("head", rows, {"normed": hidden, "rounded": self._packed.rounded}, torch.float32)
        batch = room.batch(rows, x=x.data_ptr())
        logits = torch.empty(rows, self._packed.outs)
        done = self._kernels.decoder_head(
            ctypes.byref(self._packed.c),
            ctypes.c_void_p(weight),
            ctypes.c_int32(hidden),
            ctypes.c_double(self._epsilon),
            ctypes.byref(batch),
            ctypes.c_void_p(logits.data_ptr()),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return logits

    def through(self, x: torch.Tensor, plan: ForwardBatch, pool: SlotPool, first: int, last: int) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1`` for the input ``x`` (T, E) of layer ``first``, overwritten."""
        if plan.keys is None:
            raise ValueError("the plan of the pass has no keys by token")
        x = x.contiguous()
        wide = torch.float64 if pool.entries[first].dtype == torch.int16 else torch.float32
        cos, sin = (table.contiguous() for table in self._rotation(x, plan.positions, wide))
        layers = self._stack[first:last]
        sizes = {**layers[0].sizes, "low": max(layer.rank for layer in self._stack)}
        room = self._room("layers", len(x), sizes, pool.entries[first].dtype)
        address, size = plan.keys.runs.ctypes.data, plan.keys.runs.strides[0]
        batch = room.batch(
            len(x),
            x=x.data_ptr(),
            slots=plan.slots.data_ptr(),
            keys=plan.keys.slots.ctypes.data,
            **{name: address + row * size for row, name in enumerate(("before_at", "before", "own_at", "own"))},
            cosine=cos.data_ptr(),
            sine=sin.data_ptr(),
        )
        addresses = ctypes.c_void_p * len(layers)
        done = self._kernels.decoder_layers(
            addresses(*(layer.address for layer in layers)),
            addresses(*(entries.data_ptr() for entries in pool.entries[first:last])),
            ctypes.c_int32(len(layers)),
            ctypes.byref(batch),
        )
        if not done:
            raise MemoryError("a pass has no memory for its counters")
        return x

    def _room(self, what: str, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> _Room:
        """Room for a pass, its contents undefined; ``sizes`` and ``dtype`` as for :class:`_Room`."""
        if tokens > KEPT_TOKENS:
            return _Room(tokens, sizes, dtype)
        if (what, dtype) not in self._rooms:
            self._rooms[what, dtype] = _Room(KEPT_TOKENS, sizes, dtype)
        return self._rooms[what, dtype]


class _CompiledLayer:
    """One layer's weights."""

    def __init__(self, layer: Any, config: Any, memory: WeightMemory, pairs: bool) -> None:
        """``memory`` and ``pairs`` as for :class:`PackedLinear`."""
        attention, mlp = layer.self_attn, layer.mlp
        joint = [[layer.get_submodule(path) for path in paths] for paths in JOINT]
        eights = isinstance(attention, Int8Attention)
        self.products = [PackedLinear(linears, memory, pairs=pairs) for linears in joint]
        """Of the layer, those of linear layers with the same input as one."""
        self._outs = [[linear.out_features for linear in linears] for linears in joint]
        self._changes: list[PackedLinear] = []
        self.rank = 1
        """The most numbers between the two matrices of a low-rank change."""
        norms = [layer.input_layernorm, layer.post_attention_layernorm]
        norms += [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        self._norms = [None if norm is None else _norm(norm)[0] for norm in norms]
        self._inner = mlp.gate_proj.out_features
        self._width = config.num_attention_heads * attention.head_dim
        self._heads, self._hidden = config.num_attention_heads, config.hidden_size
        self._c = CLayer(
            *(self._hidden, self._inner, self._heads),
            *(config.num_key_value_heads, attention.head_dim, eights, float(attention.scaling), _norm(norms[0])[1]),
            *(None if weight is None else weight.data_ptr() for weight in self._norms),
            *(product.c for product in self.products),
        )
        self.address = ctypes.addressof(self._c)
        layer.self_attn = layer.mlp = None  # frees the plain weights

    def adapted(self, changes: Sequence[Sequence[LowRank | None]], memory: WeightMemory) -> _CompiledLayer:
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
            "normed": self._hidden,
            "rounded": max(product.rounded for product in self.products),
        }


class _Room:
    """Memory of a pass over T tokens at most."""

    def __init__(self, tokens: int, sizes: dict[str, int], dtype: torch.dtype) -> None:
        """``sizes`` are those of a token; ``dtype`` is that of queries."""
        dtypes = {"queries": dtype, "scales": torch.float64, "rounded": torch.int8, "corrections": torch.int32}
        self._tensors = {
            name: torch.empty(tokens, size, dtype=dtypes.get(name, torch.float32))
            for name, size in {**sizes, "largest": 1, "corrections": 1}.items()
        }
        self._addresses = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}

    def batch(self, tokens: int, **addresses: int) -> CPass:
        """The pass with its room, and the addresses of what it reads. Valid as long as the room."""
        return CPass(tokens=tokens, threads=torch.get_num_threads(), **self._addresses, **addresses)


def model_device(network: Any) -> torch.device:
    """The device of a network's weights."""
    device: torch.device = network.model.embed_tokens.weight.device
    return device


def compiled(network: Any) -> tuple[CompiledDecoder | None, str]:
    """The decoder of a network that :class:`LlamaDecoder` fits, or None and why there is none."""
    try:
        kernels = library.load()
    except library.NoKernels as error:
        return None, str(error)
    why = CompiledDecoder.refusal(network, kernels)
    return (CompiledDecoder(network, kernels), "") if why is None else (None, why)


def _plain(weight: torch.Tensor) -> nn.Linear:
    """A linear layer of a weight (out, in)."""
    outs, ins = weight.shape
    linear = nn.Linear(ins, outs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _norm(module: Any) -> tuple[torch.Tensor, float]:
    """Weight (E,) and epsilon of a root-mean-square norm."""
    if isinstance(module, RowNorm):
        return module.weight, module.epsilon
    return module.weight.detach().float().contiguous(), float(module.variance_epsilon)
