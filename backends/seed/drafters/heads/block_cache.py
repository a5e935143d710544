"""Drafts of a head that fills a block at once: one pass gives the laws of all places.

Tokens that the target has computed are read once for all sequences that share them. B sequences, n places of a block,
V vocabulary of the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...executor.segment import Segment
from ...kv_cache.pool import Slots
from ...records import SequenceState
from ..model.prefix_drafter import pages_of
from ..model.tree_builder import TreeBuilder
from .block_runner import BlockRunner
from .head_cache import HeadCache


class BlockCache(HeadCache):
    """Reads sequences with one head, and keeps the laws of their blocks until their drafts are complete."""

    first = 0

    def __init__(self, runner: BlockRunner) -> None:
        super().__init__(runner)
        self._blocks = runner
        self._laws: dict[SequenceState, torch.Tensor] = {}
        """For each sequence that is drafted for the logits (n, V) of its places."""

    def laws(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """Logits (B, n, V) of the places after each of B sequences. Raises OutOfMemory."""
        runner, rows = self._blocks, [builder.row for builder in builders]
        self._read([pages_of(row).table for row in rows])
        size, wanted = runner.config.block, range(runner.config.first, runner.config.block)
        masks = [runner.config.mask] * (size - 1)
        slots = runner.forest.allocate(len(rows) * size)
        try:
            spans = [
                Segment([row.tokens[-1], *masks], own, pages.table, pages.node, None, wanted, mutual=True)
                for row, pages, own in zip(rows, map(pages_of, rows), slots.reshape(len(rows), size), strict=True)
            ]
            logits, of = runner.forward(spans)
        finally:
            runner.forest.pool.free(slots)
        self.note(rows)
        return logits[[place for own in of for place in own]].view(len(rows), len(wanted), -1)

    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`. All sequences can be read."""
        self._laws = dict(zip((builder.row for builder in builders), self.laws(builders), strict=True))
        return torch.stack([law[0] for law in self._laws.values()])

    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`; the law of a place is the same after all nodes before it."""
        return torch.stack(
            [
                self._laws[builder.row][1 + _level(builder.draft.parents, node)]
                for builder in builders
                for node in builder.growing
            ]
        )

    def free_drafts(self) -> None:
        """See :class:`HeadCache`."""
        self._laws = {}

    def _read(self, tables: Sequence[Slots]) -> None:
        """Read the tokens of sequences that were not read, once where several sequences share them."""
        places = [self._blocks.unread(table) for table in tables]
        slots = np.concatenate([table[own] for table, own in zip(tables, places, strict=True)])
        slots, first = np.unique(slots, return_index=True)
        if len(slots):
            self._blocks.read(slots, np.concatenate(places)[first])


def _level(parents: Sequence[int], node: int) -> int:
    """Nodes above a node."""
    level = 0
    while parents[node] >= 0:
        node, level = parents[node], level + 1
    return level
