"""Passes of a head that reads pairs of a state and the next token: EAGLE-3, MTP layers.

The pair of token i + 1 and the state of token i lies in the slot of token i + 1, as it depends on both; a text's first
token has no pair. Of drafted tokens the head's own output is the state.
T tokens of a pass, E hidden size of the head.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from ...executor.forward_batch import make_forward_batch
from ...executor.model_runner import ModelRunner
from ...executor.segment import Segment
from ...kv_cache.by_slot import extended
from ...kv_cache.pool import Slots
from .head_decoder import PairDecoder
from .head_runner import Embedding, HeadRunner


class PairRunner(HeadRunner):
    """Runs a head over pairs."""

    def __init__(self, head: PairDecoder, embedding: Embedding, target: ModelRunner, features: Sequence[int]) -> None:
        """See :class:`HeadRunner`."""
        self._pairs = head
        super().__init__(head, embedding, target, features)

    def reset_cache(self) -> None:
        """See :class:`HeadRunner`."""
        super().reset_cache()
        self._before = torch.empty(0, dtype=torch.long, device=self.device)
        """(slots,) slot of the token before, whose state is read."""

    @torch.inference_mode()
    def forward(
        self, spans: Sequence[Segment], before: Sequence[Slots] | None = None
    ) -> tuple[torch.Tensor, list[range]]:
        """See :class:`ModelRunner`; the outputs of wanted tokens are kept as their states.

        ``before`` (n,): for each segment the slots of the tokens before its tokens; None: within it and its context.
        """
        began = time.perf_counter()
        self._follow()
        plan = make_forward_batch(spans, self.dtype, self.device, self._pairs.in_place)
        slots = torch.from_numpy(np.concatenate([span.slots for span in spans])).to(self.device)
        previous = np.concatenate([slots_before(span) for span in spans] if before is None else list(before))
        self._before.index_copy_(0, slots, torch.from_numpy(previous).to(self.device))
        hidden = self._states.index_select(0, self._before.index_select(0, plan.slots))
        embedded = self._embedding(plan.tokens[0]).to(self.dtype)
        x = self._pairs.through(embedded, hidden, plan, self._pool)
        x = x.index_select(0, plan.wanted)
        self._states.index_copy_(0, plan.slots.index_select(0, plan.wanted), x)
        logits = self._pairs.logits(x)
        self._record(plan, began)
        return logits, plan.rows

    def _follow(self) -> None:
        super()._follow()
        self._before = extended(self._before, self._pool.capacity)


def slots_before(span: Segment) -> Slots:
    """For each token of a segment the slot of the token before it."""
    last = int(span.context[-1])
    if span.parents is None:
        return np.concatenate(([last], span.slots[:-1]))
    return np.array([last if parent < 0 else int(span.slots[parent]) for parent in span.parents], dtype=np.int64)
