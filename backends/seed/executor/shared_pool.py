"""Passes of a draft model over the keys and values of its target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..kv_cache.pool import SlotPool
from ..kv_cache.radix_tree import RadixCache
from .model_runner import ModelRunner
from .weights import Weights


class SharedPoolRunner(ModelRunner):
    """Runs a copy of the target's layers, in other numbers, that reads and writes the target's pool."""

    def __init__(self, weights: Weights, target: ModelRunner) -> None:
        """``weights`` attend in float32, and :func:`pool_misfit` finds nothing."""
        self.target = target
        super().__init__(weights, target.memory)

    @property
    def forest(self) -> RadixCache:
        """The target's prefix cache, also after the target has dropped one."""
        return self.target.forest

    @contextmanager
    def profiling(self) -> Iterator[None]:
        """See :class:`ModelRunner`; in the target's cache, which is empty afterwards as well."""
        with self.target.profiling():
            yield
        self.seconds, self.passes = 0.0, 0

    def reset_cache(self) -> None:
        """See :class:`ModelRunner`: the target alone drops its cache."""

    def _new_cache(self, pool: SlotPool | None = None) -> RadixCache:
        return self.target.forest


def pool_misfit(target: ModelRunner) -> str | None:
    """Why a copy of a target's layers that attends in float32 cannot use the target's keys and values; None: it can."""
    pool = target.forest.pool
    if target.device.type != "cpu":
        return f"the target runs on {target.device}, and the copy on the CPU"
    if pool.states is not None:
        return "the target's layers have recurrent states"
    if pool.windows is not None:
        return "the target's layers with sliding windows drop keys and values"
    if target.dtype != torch.float32:
        return f"the target's keys and values are in {str(target.dtype).removeprefix('torch.')}, expected float32"
    return None
