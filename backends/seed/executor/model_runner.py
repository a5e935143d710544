"""Run one model over packed batches of segments, and measure the time of its passes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..kv_cache.pool import SlotPool
from ..kv_cache.radix_tree import RadixCache
from .forward_batch import ForwardBatch, make_forward_batch
from .graphed_decoder import GraphedDecoder
from .pass_work import PassWork
from .segment import Segment
from .weights import Weights

CACHED = 16 * 2**20
"""Bytes of cached keys and values that no request uses, or as many as the weights take if that is more."""


class ModelRunner:
    """A model's weights, a pool of keys and values, and passes over both."""

    def __init__(self, weights: Weights, memory: int) -> None:
        """``memory`` is the most bytes that keys and values may take."""
        self.weights = weights
        self.device = weights.device
        self.dtype = weights.dtype
        self.context = weights.context
        """The most tokens of a text; None when the model does not say."""
        self.vocabulary = weights.vocabulary
        """Size of a row of logits."""
        self.parameters = weights.parameters
        self.memory = memory
        self.seconds = 0.0
        """Time spent in passes."""
        self.passes = 0
        self.work = PassWork()
        """What the last pass computed."""
        self.exit_counts: list[int] = []
        """Tokens by the exit that their logits came from; empty for a model without exits."""
        self._graphs: GraphedDecoder | None = None
        self.forest = self._new_cache(self._new_pool())

    @property
    def stages(self) -> list[tuple[int, int]]:
        """First and last layer of every run of layers that passes are made of."""
        return [(0, self.layers)]

    @property
    def has_graphs(self) -> bool:
        """Whether passes of fixed sizes are graphs."""
        return self._graphs is not None

    def padded(self, tokens: int) -> int:
        """Tokens that a pass over so many computes: more where it is a graph of a fixed size."""
        return tokens if self._graphs is None else self._graphs.sizes.padded(tokens)

    def fix_pool(self, slots: int) -> None:
        """Replace the cache by one whose memory is allocated now and stays where it is."""
        pool = self._new_pool()
        pool.fix(slots)
        self.forest = self._new_cache(pool)

    def use_graphs(self, graphs: GraphedDecoder) -> None:
        """Make the passes that fit an envelope by graphs over the fixed pool."""
        self._graphs = graphs

    def use_plain_passes(self) -> None:
        """Use no graphs, and a pool that grows; the cache is empty then."""
        self._graphs = None
        self.forest = self._new_cache(self._new_pool())

    @property
    def layers(self) -> int:
        """Layers of a full pass."""
        return len(self.weights.layers)

    @property
    def mean_parameters(self) -> float:
        """Mean number of parameters that a pass reads."""
        return self.parameters

    @property
    def relative_cost(self) -> float:
        """Mean time of a pass as a share of the time of a pass through all layers."""
        return 1.0

    def reset_statistics(self) -> None:
        """Forget statistics of earlier passes that influence later ones; a model without exits has none."""

    def reset_cache(self) -> None:
        """Replace the cache of keys and values by an empty one."""
        pool = self.forest.pool
        if pool.fixed:
            pool.clear()
        self.forest = self._new_cache(pool if pool.fixed else self._new_pool())

    @contextmanager
    def profiling(self) -> Iterator[None]:
        """Run passes of any size to measure them; afterwards the cache is empty and the counters are zero."""
        self.forest.pool.lift_limit()  # kv_memory may be less than the largest measured pass
        try:
            yield
        finally:
            self.reset_cache()
            self.seconds, self.passes, self.exit_counts = 0.0, 0, [0] * len(self.exit_counts)

    def _new_pool(self) -> SlotPool:
        return self.weights.new_pool(self.memory, self.layers)

    def _batch(self, spans: Sequence[Segment]) -> ForwardBatch:
        """The pass over segments, in an envelope if there is a graph for it."""
        padded = None if self._graphs is None else self._graphs.batch(spans)
        if padded is not None:
            return padded
        return make_forward_batch(spans, self.dtype, self.device, self.weights.in_place)

    def _new_cache(self, pool: SlotPool) -> RadixCache:
        return RadixCache(pool, max(CACHED, self.parameters * self.dtype.itemsize) // max(1, pool.slot_bytes))

    @torch.inference_mode()
    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all segments, and for each segment its rows among the R."""
        began = time.perf_counter()
        plan = self._batch(spans)
        logits = (self._graphs or self.weights.decoder)(plan, self.forest.pool)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.work = plan.work
        self.seconds += time.perf_counter() - began
        return logits, plan.rows
