"""What several MTP layers have read of each live sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..model.tree_builder import TreeBuilder
from .layered_runner import LayeredRunner
from .pair_cache import PairCache


class LayeredCache(PairCache):
    """As :class:`PairCache`; a level of a draft is read by a layer of its own."""

    def __init__(self, runner: LayeredRunner) -> None:
        super().__init__(runner)
        self._layered = runner

    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`PairCache`."""
        self._layered.draft_at(0)
        return super().catch_up(builders)

    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`PairCache`; all growing nodes are of one level."""
        level, builder = 0, next(builder for builder in builders if builder.growing)
        node = builder.growing[0]
        while node >= 0:
            node, level = builder.draft.parents[node], level + 1
        self._layered.draft_at(level)
        return super().step(builders)
