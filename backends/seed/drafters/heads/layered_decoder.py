"""Several MTP layers as one head: layer k reads what layer k - 1 makes of the token before, and drafts the token k + 1.

As in DeepSeek-V3 (arXiv 2412.19437, section 2.2), whose first layer reads the target's states. Further tokens are
drafted by the last layer, which reads its own outputs. K layers, E hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...executor.forward_batch import ForwardBatch
from ...kv_cache.pool import SlotPool
from .head_decoder import PairDecoder
from .mtp_decoder import MtpDecoder


class LayeredDecoder(PairDecoder):
    """MTP layers that are alike."""

    def __init__(self, layers: Sequence[MtpDecoder]) -> None:
        """In order."""
        self.layers = layers
        self.parameters = sum(layer.parameters for layer in layers)
        self.kinds = tuple(kind for layer in layers for kind in layer.kinds)
        self.width = layers[0].width
        self.shape = f"{len(layers)} layers of {layers[0].shape}"
        self.states = len(layers) + 1

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """See :class:`HeadDecoder`."""
        return self.layers[0].fuse(states)

    def through(self, embedded: torch.Tensor, hidden: torch.Tensor, plan: ForwardBatch, pool: SlotPool) -> torch.Tensor:
        """Of the first layer, see :class:`PairDecoder`."""
        return self.layers[0].through(embedded, hidden, plan, pool)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """See :class:`PairDecoder`."""
        return self.layers[0].logits(x)
