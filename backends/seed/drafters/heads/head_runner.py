"""Passes of a head over the slots of its target's cache.

A head's keys and values lie beside the target's, in the slots of the same tokens: what sequences share in the target's
prefix cache they share in the head's. The pair of token i + 1 (and the state of token i) lies in the slot of token
i + 1, as it depends on both; a text's first token has no pair. In every pass of the target the states of the head's
layers are fused and stored by slot, drafted tokens' included, so that a sequence may go on from any of them.
T tokens of a pass, E hidden size of the head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ...executor.forward_batch import make_forward_batch
from ...executor.model_runner import ModelRunner
from ...executor.segment import Segment
from ...kv_cache.pool import SlotPool, Slots
from ...kv_cache.radix_tree import RadixCache
from .head_decoder import HeadDecoder

Embedding = Callable[[torch.Tensor], torch.Tensor]
"""Embeddings (T, E) of token ids (T,)."""


class HeadPool(SlotPool):
    """A head's keys and values, with the numbers of the target's slots."""

    def follow(self, pool: SlotPool) -> None:
        """Grow to the capacity of the target's pool."""
        before = self.capacity
        if before < pool.capacity:
            self._grow(pool.capacity)
            for entries in self.entries:
                entries[before:].zero_()


class HeadRunner(ModelRunner):
    """Runs a head for one target, whose passes it listens to."""

    def __init__(
        self, decoder: HeadDecoder, embedding: Embedding, target: ModelRunner, features: Sequence[int]
    ) -> None:
        """``features``: the layers of the target whose inputs the head reads."""
        self._decoder, self._embedding, self.target = decoder, embedding, target
        super().__init__(target.weights, target.memory)
        self.parameters = decoder.parameters
        self.shape = decoder.shape
        """Of its weights, in words."""
        self.reset_cache()
        target.listen(tuple(features), self._take)

    @property
    def layers(self) -> int:
        """Of the head."""
        return len(self._decoder.kinds)

    def reset_cache(self) -> None:
        """Follow the target to its present cache, with nothing read."""
        self.forest = self._new_cache()
        self._pool = HeadPool(list(self._decoder.kinds), self.dtype, self.device, limit=0)
        self._pool.lift_limit()
        self._states = torch.empty(0, self._decoder.width, dtype=self.dtype, device=self.device)
        """(slots, E) fused states of the target's tokens; of drafted ones the head's own output."""
        self._before = torch.empty(0, dtype=torch.long, device=self.device)
        """(slots,) slot of the token before, whose state is read."""
        self._read: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """(slots,) whether the pair of the token is computed."""

    @contextmanager
    def profiling(self) -> Iterator[None]:
        """See :class:`ModelRunner`; in the target's cache, which is empty afterwards as well."""
        with self.target.profiling():
            self.reset_cache()
            yield
        self.reset_cache()
        self.seconds, self.passes = 0.0, 0

    def unread(self, slots: Slots) -> NDArray[np.int64]:
        """Places among slots (n,) whose pairs are not computed."""
        self._follow()
        return np.flatnonzero(~self._read[slots])

    def mark(self, slots: Slots, *, read: bool) -> None:
        """Record whether the pairs of slots are computed."""
        self._read[slots] = read

    @torch.inference_mode()
    def forward(
        self, spans: Sequence[Segment], before: Sequence[Slots] | None = None
    ) -> tuple[torch.Tensor, list[range]]:
        """See :class:`ModelRunner`; the outputs of wanted tokens are kept as their states.

        ``before`` (n,): for each segment the slots of the tokens before its tokens; None: within it and its context.
        """
        began = time.perf_counter()
        self._follow()
        plan = make_forward_batch(spans, self.dtype, self.device)
        slots = torch.from_numpy(np.concatenate([span.slots for span in spans])).to(self.device)
        previous = np.concatenate([_before(span) for span in spans] if before is None else list(before))
        self._before.index_copy_(0, slots, torch.from_numpy(previous).to(self.device))
        hidden = self._states.index_select(0, self._before.index_select(0, plan.slots))
        embedded = self._embedding(plan.tokens[0]).to(self.dtype)
        x = self._decoder.through(embedded, hidden, plan, self._pool)
        x = x.index_select(0, plan.wanted)
        self._states.index_copy_(0, plan.slots.index_select(0, plan.wanted), x)
        logits = self._decoder.logits(x)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.work = plan.work
        self.seconds += time.perf_counter() - began
        return logits, plan.rows

    def _new_cache(self, pool: SlotPool | None = None) -> RadixCache:
        return self.target.forest

    def _take(self, slots: torch.Tensor, states: Sequence[torch.Tensor]) -> None:
        """Keep the states (T, width) of the target's layers for the tokens in ``slots`` (T,) of its last pass."""
        began = time.perf_counter()
        self._follow()
        fused = self._decoder.fuse(torch.cat([state.to(self.dtype) for state in states], dim=1))
        self._states.index_copy_(0, slots, fused)
        self._read[slots.cpu().numpy()] = False
        self.seconds += time.perf_counter() - began

    def _follow(self) -> None:
        """Extend what is kept by slot to the size of the target's pool."""
        if self.forest is not self.target.forest:  # the target has dropped its cache
            self.reset_cache()
        self._pool.follow(self.forest.pool)
        missing = self._pool.capacity - len(self._read)
        if missing > 0:
            self._states = torch.cat((self._states, self._states.new_zeros(missing, self._decoder.width)))
            self._before = torch.cat((self._before, self._before.new_zeros(missing)))
            self._read = np.concatenate((self._read, np.zeros(missing, dtype=np.bool_)))


def _before(span: Segment) -> Slots:
    """For each token of a segment the slot of the token before it."""
    last = int(span.context[-1])
    if span.parents is None:
        return np.concatenate(([last], span.slots[:-1]))
    return np.array([last if parent < 0 else int(span.slots[parent]) for parent in span.parents], dtype=np.int64)
