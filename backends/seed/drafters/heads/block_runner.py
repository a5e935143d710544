"""Passes of a head that fills a block at once: DFlash.

The keys and values of a text's tokens are made of the target's states, and lie in the tokens' slots. Those of a block
lie in slots that are free again after the pass. T tokens of a pass, E hidden size of the head.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ...executor.forward_batch import make_forward_batch
from ...executor.model_runner import ModelRunner
from ...executor.segment import Segment
from ...kv_cache.pool import Slots
from .dflash_decoder import DFlashDecoder
from .head_runner import Embedding, HeadRunner


class BlockRunner(HeadRunner):
    """Runs a head over blocks."""

    def __init__(self, head: DFlashDecoder, embedding: Embedding, target: ModelRunner, features: Sequence[int]) -> None:
        """See :class:`HeadRunner`."""
        self._blocks = head
        self.config = head.config
        super().__init__(head, embedding, target, features)

    @property
    def places(self) -> int:
        """Tokens that a block drafts."""
        return self.config.block - self.config.first

    @torch.inference_mode()
    def read(self, slots: Slots, positions: NDArray[np.int64]) -> None:
        """Compute the keys and values of tokens that the target has computed, in ``slots`` (n,) at their positions."""
        began = time.perf_counter()
        self._follow()
        here = torch.from_numpy(slots).to(self.device)
        places = torch.from_numpy(positions[None]).to(self.device)
        self._blocks.keep(self._states.index_select(0, here), places, here, self._pool)
        self.mark(slots, read=True)
        self.seconds += time.perf_counter() - began

    @torch.inference_mode()
    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """See :class:`ModelRunner`; the segments are blocks."""
        began = time.perf_counter()
        self._follow()
        plan = causal = make_forward_batch(spans, self.dtype, self.device)
        if self._blocks.has_causal_layers:  # segments of the same sizes are packed in the same order
            causal = make_forward_batch([replace(span, mutual=False) for span in spans], self.dtype, self.device)
        x = self._blocks.through(self._embedding(plan.tokens[0]).to(self.dtype), plan, causal, self._pool)
        logits = self._blocks.logits(x.index_select(0, plan.wanted))
        self._record(plan, began)
        return logits, plan.rows
