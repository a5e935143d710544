"""Passes of several MTP layers.

The pair of a token in layer k is the token's embedding and the output of layer k - 1 at the token before, so a text has
no pair of its first k + 1 tokens there. All layers read the tokens of a text. A node of level n is read by layer n for
its law, and by the layers after it for their keys and values.
T tokens of a pass, K layers, E hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...executor.forward_batch import ForwardBatch, make_forward_batch
from ...executor.model_runner import ModelRunner
from ...executor.segment import Segment
from ...kv_cache.by_slot import extended
from ...kv_cache.pool import Slots
from .head_runner import Embedding
from .layered_decoder import LayeredDecoder
from .pair_runner import PairRunner, slots_before


class LayeredRunner(PairRunner):
    """Runs MTP layers one after another."""

    def __init__(
        self, head: LayeredDecoder, embedding: Embedding, target: ModelRunner, features: Sequence[int]
    ) -> None:
        """See :class:`HeadRunner`."""
        self._layered, self._level = head, 0
        super().__init__(head, embedding, target, features)

    def reset_cache(self) -> None:
        """See :class:`HeadRunner`."""
        super().reset_cache()
        self._outputs = [self._states[:0] for _ in self._layered.layers]
        """By layer (slots, E), its outputs at the tokens."""

    def draft_at(self, level: int) -> None:
        """The next passes read nodes of this level; 0: texts."""
        self._level = level

    @torch.inference_mode()
    def forward(
        self, spans: Sequence[Segment], before: Sequence[Slots] | None = None
    ) -> tuple[torch.Tensor, list[range]]:
        """See :class:`PairRunner`; the logits are those of the layer that drafts after the level."""
        began = time.perf_counter()
        before = [slots_before(span) for span in spans] if before is None else before
        self._follow()
        last = len(self._layered.layers) - 1
        first = min(self._level, last)
        drafted: tuple[ForwardBatch, torch.Tensor] | None = None
        for number in range(first, last + 1):
            parts = [_after(span, own, number) for span, own in zip(spans, before, strict=True)]
            segments = [segment for segment, _ in parts if len(segment.tokens)]
            if not segments:
                break
            plan = make_forward_batch(segments, self.dtype, self.device)
            previous = np.concatenate([own for segment, own in parts if len(segment.tokens)])
            x = self._through(number, plan, segments, previous)
            if drafted is None:
                drafted = plan, x.index_select(0, plan.wanted)
        assert drafted is not None  # noqa: S101  # texts end with a token that is read
        logits = self._pairs.logits(drafted[1])
        self._record(drafted[0], began)
        return logits, drafted[0].rows

    def _through(self, number: int, plan: ForwardBatch, segments: Sequence[Segment], previous: Slots) -> torch.Tensor:
        """The outputs (T, E) of one layer in the order of the plan; ``previous`` (T,) slots in that of the segments."""
        slots = torch.from_numpy(np.concatenate([segment.slots for segment in segments])).to(self.device)
        self._before.index_copy_(0, slots, torch.from_numpy(previous).to(self.device))
        source = min(self._level, len(self._layered.layers)) if self._level > number else number
        states = self._states if not source else self._outputs[source - 1]
        hidden = states.index_select(0, self._before.index_select(0, plan.slots))
        embedded = self._embedding(plan.tokens[0]).to(self.dtype)
        x = self._layered.layers[number].through(embedded, hidden, plan, self._pool)
        self._outputs[number].index_copy_(0, plan.slots, x)
        return x

    def _follow(self) -> None:
        super()._follow()
        self._outputs = [extended(outputs, self._pool.capacity) for outputs in self._outputs]


def _after(span: Segment, before: Slots, number: int) -> tuple[Segment, Slots]:
    """The tokens of a segment that have a pair in a layer, and the slots before them.

    A segment's context begins with the text's second token.
    """
    known = len(span.context)
    if known >= number:
        return replace(span, context=span.context[number:]), before
    missing = number - known
    own = replace(
        span,
        tokens=span.tokens[missing:],
        slots=span.slots[missing:],
        context=span.context[:0],
        wanted=[place - missing for place in span.wanted if place >= missing],
    )
    return own, before[missing:]
