"""A decoder of the Llama family in one call of a kernel per pass (:mod:`treeagent.backends.seed.kernels`).

All layers follow one another in one parallel region, and attention reads keys and values in place, for the tokens of
any chain or tree. A row's numbers do not depend on the rows beside it, in float32 as well as in 8 bits.
T tokens, E hidden size, R wanted tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...models.gguf_weights import GgufWeights
from ...models.int4 import Int4Linear
from ...models.int8 import Int8Linear
from ...models.int8_network import SILU
from ...models.low_rank import LowRank
from ..kernels import library
from ..kernels.weight_memory import WeightMemory
from ..kv_cache.pool import SlotPool
from .compiled_layer import CompiledLayer, Packer, norm_of
from .compiled_layers import CompiledLayers, CompiledProduct
from .compiled_steps import StepArrays, StepOutput, StepRow
from .forward_batch import ForwardBatch
from .llama import LlamaDecoder
from .llama_layer import changes_of
from .rotation import Rotation

MOST_DIM = 512
"""Largest head dimension of the kernels."""


class CompiledDecoder(LlamaDecoder):
    """Llama, Mistral, Qwen2, Qwen3 in float32, with 8-bit layers, or with weights in bfloat16.

    With weights in bfloat16 all else is float32, keys and values too. Where the processor multiplies in bfloat16, rows
    are rounded to it in front of every product, else weights are widened as they are read. Sums are in float32 in the
    order of the inputs, so that a row stands alone.
    """

    def __init__(self, network: Any, kernels: ctypes.CDLL, stored: GgufWeights | None = None) -> None:
        """``kernels`` as :meth:`refusal` accepts them. The network's weights are taken over.

        ``stored``: what a .gguf file has of them, which is kept in the place of their numbers.
        """
        model, config = network.model, network.config
        self._kernels = kernels
        self._embed = model.embed_tokens
        self._rotation = Rotation(model.rotary_emb)
        pairs, memory = library.multiplies_bfloat16(kernels), WeightMemory()
        self.kernels = "compiled"
        """What computes passes."""
        if self._embed.weight.dtype == torch.bfloat16:
            self.kernels += " (products in bfloat16)" if pairs else " (bfloat16 widened to float32)"
        packers = [Packer(memory, pairs, stored, f"model.layers.{index}.") for index in range(len(model.layers))]
        layers = [CompiledLayer(layer, config, packer) for layer, packer in zip(model.layers, packers, strict=True)]
        self._stack = CompiledLayers(kernels, layers)
        self.depth = len(self._stack.layers)
        self._weight, self._epsilon = norm_of(model.norm)
        output = Packer(memory, pairs, stored).pack(network, ["lm_head"])
        self._output = CompiledProduct(kernels, output, model.norm, config.hidden_size)
        if not config.tie_word_embeddings or isinstance(network.lm_head, (Int4Linear, Int8Linear)):
            network.lm_head = None

    @property
    def in_blocks(self) -> float:
        """The share of the linear layers' weights that are kept as integers with a scale by block."""
        products = [product for layer in self._stack.layers for product in layer.products] + [self._output.linear]
        sizes = [(product.outs * product.ins, product.in_blocks) for product in products]
        return sum(size for size, blocks in sizes if blocks) / sum(size for size, _ in sizes)

    @staticmethod
    def refusal(network: Any, kernels: ctypes.CDLL) -> str | None:
        """Why the kernels do not run a network that :class:`LlamaDecoder` runs; None where they do."""
        layers = network.model.layers
        few_bits = [isinstance(module, (Int4Linear, Int8Linear)) for module in network.modules()]
        attention = layers[0].self_attn
        dim = int(attention.head_dim)
        dtype = network.model.embed_tokens.weight.dtype
        if model_device(network).type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
            return "weights that are not in float32, bfloat16 or 8 bits on the CPU"
        if dtype == torch.bfloat16 and any(few_bits):
            return "8-bit layers beside bfloat16"
        if kernels.instructions() < 1:
            return "a processor without AVX-512"
        if dim % 8 or dim > MOST_DIM:
            return f"a head dimension of {dim}"
        if any(few_bits) and kernels.instructions() < 2:
            return "no 8-bit dot products of the processor (AVX512_VNNI)"
        if any(type(layer.mlp.act_fn).__name__ not in (*SILU, "RowSilu") for layer in layers):
            return "an activation other than SiLU"
        return None

    def adapted(self, layers: Mapping[str, LowRank]) -> CompiledDecoder:
        """See :class:`LlamaDecoder`; ``layers`` are in float32."""
        other = copy.copy(self)
        other._output, memory = self._output.apart(), WeightMemory()
        stack = [layer.adapted(changes_of(layers, index), memory) for index, layer in enumerate(self._stack.layers)]
        other._stack = CompiledLayers(self._kernels, stack)
        return other

    def joined(self, others: Sequence[LlamaDecoder], rows: Sequence[slice]) -> CompiledDecoder:
        """See :class:`LlamaDecoder`."""
        joint = copy.copy(self)
        stacks = [decoder._stack for decoder in others if isinstance(decoder, CompiledDecoder)]
        joint._stack = self._stack.joined(stacks)
        return joint

    @property
    def takes_steps(self) -> bool:
        """Whether the kernels can make several passes in one call: they read embeddings, and angles that are fixed."""
        embed = self._embed
        plain = type(embed) is nn.Embedding and embed.weight.dtype == torch.float32 and embed.weight.is_contiguous()
        return plain and self._rotation.fixed

    def take_steps(self, rows: Sequence[StepRow], pool: SlotPool) -> StepOutput:
        """Several tokens of each row, one pass after another; keys and values are in the pool."""
        arrays, embeddings = StepArrays(rows), self._embed.weight
        angles = self._rotation.table(arrays.positions - 1, embeddings[:1], _wide(pool))
        settled = self._stack.take_steps(arrays.steps(embeddings, angles), self._output, arrays.keys, pool)
        return arrays.output(settled=settled)

    def embed(self, plan: ForwardBatch) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return super().embed(plan).float()

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return self._output(x)

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`LlamaDecoder`."""
        return F.rms_norm(x, self._weight.shape, self._weight, self._epsilon)

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`.hf_model.Decoder`."""
        return self._output(x, normed=True)

    def with_states(
        self, plan: ForwardBatch, pool: SlotPool, layers: Sequence[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See :class:`LlamaDecoder`; copied in the one call of all layers."""
        x = self.embed(plan)
        states = {layer: torch.empty_like(x) for layer in layers if layer < self.depth}
        x = self._run(x, plan, pool, 0, self.depth, states)
        if self.depth in layers:
            states[self.depth] = self.normed(x)
        if len(plan.wanted) < len(x):
            x = x.index_select(0, plan.wanted)
        return self.logits(x), [states[layer] for layer in layers]

    def through(self, x: torch.Tensor, plan: ForwardBatch, pool: SlotPool, first: int, last: int) -> torch.Tensor:
        """The output (T, E) of layer ``last - 1`` for the input ``x`` (T, E) of layer ``first``, overwritten."""
        return self._run(x, plan, pool, first, last)

    def _run(
        self,
        x: torch.Tensor,
        plan: ForwardBatch,
        pool: SlotPool,
        first: int,
        last: int,
        heard: Mapping[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        x = x.contiguous()
        cos, sin = (table.contiguous() for table in self._rotation(x, plan.positions, _wide(pool)))
        return self._stack.run(x, (cos, sin), plan, pool, first=first, last=last, heard=heard)


def _wide(pool: SlotPool) -> torch.dtype:
    """Of cosines and sines: heads are rounded to integers after they were rotated."""
    return torch.float64 if pool.entries[0].dtype == torch.int16 else torch.float32


def model_device(network: Any) -> torch.device:
    """The device of a network's weights."""
    device: torch.device = network.model.embed_tokens.weight.device
    return device


def compiled(network: Any, stored: GgufWeights | None = None) -> tuple[CompiledDecoder | None, str]:
    """The decoder of a network that :class:`LlamaDecoder` fits, or None and why there is none.

    ``stored`` as for :class:`CompiledDecoder`.
    """
    try:
        kernels = library.load()
    except library.NoKernels as error:
        return None, str(error)
    why = CompiledDecoder.refusal(network, kernels)
    return (CompiledDecoder(network, kernels, stored), "") if why is None else (None, why)
