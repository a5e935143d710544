"""What a head keeps in the slots of its target's cache.

A head's keys and values lie beside the target's, in the slots of the same tokens: what sequences share in the target's
prefix cache they share in the head's. In every pass of the target the states of the head's layers are fused and stored
by slot, drafted tokens' included, so that a sequence may go on from any of them.
T tokens of a pass, E hidden size of the head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ...executor.forward_batch import ForwardBatch
from ...executor.model_runner import ModelRunner
from ...kernels.transfers import transfers_of
from ...kv_cache.by_slot import extended
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
    """What heads of all kinds share. A head belongs to one target, whose passes it listens to."""

    def __init__(self, head: HeadDecoder, embedding: Embedding, target: ModelRunner, features: Sequence[int]) -> None:
        """``features``: the layers of the target whose inputs the head reads."""
        self._head, self._embedding, self.target = head, embedding, target
        super().__init__(target.weights, target.memory)
        self.parameters = head.parameters
        self.shape = head.shape
        """Of its weights, in words."""
        kept = head.states * head.width + sum(2 * heads * dim for heads, dim in head.kinds)
        target.keep_beside(kept * self.dtype.itemsize)
        self.reset_cache()
        target.listen(tuple(features), self._take)

    @property
    def layers(self) -> int:
        """Of the head."""
        return len(self._head.kinds)

    def reset_cache(self) -> None:
        """Follow the target to its present cache, with nothing read."""
        self._forest = self._new_cache()
        self._pool = HeadPool(list(self._head.kinds), self.dtype, self.device, limit=0)
        self._pool.lift_limit()
        self._states = torch.empty(0, self._head.width, dtype=self.dtype, device=self.device)
        """(slots, E) fused states of the target's tokens."""
        self._read: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        """(slots,) whether the head's keys and values of the token are computed."""

    @contextmanager
    def profiling(self) -> Iterator[None]:
        """See :class:`ModelRunner`; in the target's cache, which is empty afterwards as well."""
        with self.target.profiling():
            self.reset_cache()
            yield
        self.reset_cache()
        self.seconds, self.passes = 0.0, 0

    def unread(self, slots: Slots) -> NDArray[np.int64]:
        """Places among slots (n,) that the head has not read."""
        self._follow()
        return np.flatnonzero(~self._read[slots])

    def mark(self, slots: Slots, *, read: bool) -> None:
        """Record whether the head has read slots."""
        self._read[slots] = read

    def _new_cache(self, pool: SlotPool | None = None) -> RadixCache:
        return self.target.forest

    def _take(self, slots: torch.Tensor, states: Sequence[torch.Tensor]) -> None:
        """Keep the states (T, width) of the target's layers for the tokens in ``slots`` (T,) of its last pass."""
        began = time.perf_counter()
        self._follow()
        fused = self._head.fuse(torch.cat([state.to(self.dtype) for state in states], dim=1))
        self._states.index_copy_(0, slots, fused)
        self._read[slots.cpu().numpy()] = False
        self.seconds += time.perf_counter() - began

    def _record(self, plan: ForwardBatch, began: float) -> None:
        """Count a pass over a plan, and its time since ``began``."""
        transfers_of(self.device).wait()
        self.passes += 1
        self.work = plan.work
        self.seconds += time.perf_counter() - began

    @torch.inference_mode()
    def _follow(self) -> None:
        """Extend what is kept by slot to the size of the target's pool."""
        if self.forest is not self.target.forest:  # the target has dropped its cache
            self.reset_cache()
        self._pool.follow(self.forest.pool)
        self._states = extended(self._states, self._pool.capacity)
        if len(self._read) < self._pool.capacity:
            self._read = np.pad(self._read, (0, self._pool.capacity - len(self._read)))
