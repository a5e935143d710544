"""Passes of an EAGLE-3 head in the kernels that run the layers of its target.

Where the processor has products in 8 bits the head's weights are rounded to them: what is drafted needs no exactness,
and of a small head a pass takes about as long as its weights take to be read.
T pairs of a pass, R wanted ones, E hidden size, V vocabulary of the target.
"""

from __future__ import annotations

import ctypes

import torch

from ....models.int8 import quantize
from ...executor.compiled_decoder import MOST_DIM
from ...executor.compiled_layer import CompiledLayer, Packer
from ...executor.compiled_layers import CompiledLayers, CompiledProduct
from ...executor.forward_batch import ForwardBatch
from ...kernels import library
from ...kernels.structures import PackedLinear
from ...kernels.weight_memory import WeightMemory
from ...kv_cache.pool import SlotPool
from .eagle3_decoder import Eagle3Decoder, PlainEagle3Decoder
from .eagle3_network import Eagle3Network


class CompiledEagle3Decoder(Eagle3Decoder):
    """Passes in compiled kernels, on a processor with AVX-512."""

    in_place = True

    def __init__(
        self, network: Eagle3Network, ids: torch.Tensor, vocabulary: int, kernels: ctypes.CDLL, *, eights: bool
    ) -> None:
        """``eights``: with weights that are rounded to 8 bits."""
        super().__init__(network, ids, vocabulary)
        self.shape += ", compiled"
        if eights:
            quantize(network)
            self.shape += " in 8 bits"
        memory, width = WeightMemory(), network.fc.in_features
        layer = CompiledLayer(network.midlayer, network.config.layer, Packer(memory))
        self._layers = CompiledLayers(kernels, [layer])
        fusion, output = (PackedLinear([linear], memory) for linear in (network.fc, network.lm_head))
        self._fusion = CompiledProduct(kernels, fusion, network.input_norm, width)
        self._output = CompiledProduct(kernels, output, network.norm, self.width)

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """See :class:`HeadDecoder`."""
        return self._fusion(states)

    def through(self, embedded: torch.Tensor, hidden: torch.Tensor, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """See :class:`PairDecoder`; ``hidden`` is overwritten."""
        cos, sin = self._rotation(embedded, plan.positions, embedded.dtype)  # (T, 1, D)
        rotation = cos.contiguous(), sin.contiguous()
        return self._layers.run(hidden, rotation, plan, pool, embedded=embedded.contiguous())

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        return self._vocabulary.widened(self._output(x))


def eagle3_decoder(network: Eagle3Network, ids: torch.Tensor, vocabulary: int) -> Eagle3Decoder:
    """The quickest for a head, see :class:`Eagle3Decoder`."""
    weight, dim = network.fc.weight, network.config.layer.head_dim
    if network.config.fc_norm or network.config.norm_output:
        return PlainEagle3Decoder(network, ids, vocabulary)
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and dim % 8 == 0 and dim <= MOST_DIM:
        try:
            kernels = library.load()
        except library.NoKernels:
            return PlainEagle3Decoder(network, ids, vocabulary)
        level = kernels.instructions()
        if level:
            return CompiledEagle3Decoder(network, ids, vocabulary, kernels, eights=level > 1)
    return PlainEagle3Decoder(network, ids, vocabulary)
