"""Passes of an MTP layer over packed forests, with the attention of the engine.

T pairs of a pass, R wanted ones, E hidden size, V vocabulary.
"""

from __future__ import annotations

import torch

from ...executor.architecture import heads_of
from ...executor.forward_batch import ForwardBatch
from ...executor.hf_model import Decoder
from ...executor.packed_linear import pack
from ...executor.tree_attention import AttentionContext
from ...kv_cache.pool import SlotPool
from .head_decoder import PairDecoder
from .mtp_config import MtpConfig
from .mtp_network import MtpNetwork


class MtpDecoder(PairDecoder):
    """An MTP layer's weights, and the output head of its target."""

    def __init__(self, network: MtpNetwork, config: MtpConfig, target: Decoder, draft: str, number: int = 0) -> None:
        """``number``: of the layer, from 0 on. The weights are taken over."""
        layer = config.layer
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.kinds = heads_of(draft, layer, 1)
        self.width = config.target_width
        self.shape = f"{layer.model_type}, {self.width}, {layer.num_attention_heads}, {self.parameters} parameters"
        pack(network)
        self._network, self._target, self._windows = network, target, (None,) * (number + 1)

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """The states themselves: those of one layer."""
        return states

    def through(self, embedded: torch.Tensor, hidden: torch.Tensor, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        x = self._network.pair(embedded, hidden)[None]  # (1, T, E)
        out = self._network.block(
            x,
            position_embeddings=self._network.rotary(x, plan.positions),
            attention_mask=None,
            position_ids=plan.positions,
            use_cache=False,
            forest=AttentionContext(plan, pool, self._windows),
        )
        normed: torch.Tensor = self._network.norm(out[0])
        return normed

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        return self._target.head(x)
