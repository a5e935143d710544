"""Runs one model over packed forests: passes over spans of new tokens, and what they took."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ..kv_cache.radix_tree import RadixCache
from .forward_batch import Segment, make_forward_batch
from .weights import Weights


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
        """Time spent in passes so far."""
        self.passes = 0
        self.left: list[int] = []
        """Wanted tokens that left at each exit so far, where there are exits to leave at."""
        self.forest = self.new_forest()

    @property
    def layers(self) -> int:
        """Layers of a whole pass."""
        return len(self.weights.layers)

    @property
    def weight(self) -> float:
        """Parameters that a pass reads, in the mean."""
        return self.parameters

    @property
    def share(self) -> float:
        """Share of the longest pass's time that passes take, in the mean."""
        return 1.0

    def unlearn(self) -> None:
        """Forget what passes have taught about passes to come; here nothing does."""

    def clear_cache(self) -> None:
        """Free all keys and values."""
        self.forest = self.new_forest()

    def new_forest(self) -> RadixCache:
        """An empty forest over a pool of its own."""
        return RadixCache(self.weights.new_pool(self.memory, self.layers))

    @torch.inference_mode()
    def forward(self, spans: Sequence[Segment]) -> tuple[torch.Tensor, list[range]]:
        """Logits (R, V) of the wanted tokens of all spans, and for each span its rows among the R."""
        began = time.perf_counter()
        plan = make_forward_batch(spans, self.dtype, self.device)
        logits = self.weights.decoder(plan, self.forest.pool)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.passes += 1
        self.seconds += time.perf_counter() - began
        return logits, plan.rows
