"""What a head that reads pairs has read of each live sequence, in the slots of its target's cache.

Tokens that the target has computed are read once for all sequences that share them, with the target's states. A
sequence's last token, which the target has not computed, and the nodes of its draft are read in slots that are free
again when the draft is complete: after verification they are read anew, with the target's states.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray

from ...executor.segment import Segment
from ...kv_cache.pool import Slots
from ...kv_cache.radix_node import RadixNode
from ..model.draft_slots import DraftSlots
from ..model.prefix_drafter import pages_of
from ..model.tree_builder import TreeBuilder
from .head_cache import HeadCache
from .pair_runner import PairRunner


class PairCache(HeadCache):
    """Reads sequences and the nodes of their drafts with one head. V vocabulary of the target."""

    first = 1

    def __init__(self, runner: PairRunner) -> None:
        super().__init__(runner)
        self._pairs, self._drafted = runner, DraftSlots(runner)

    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`. All sequences can be read."""
        rows = [builder.row for builder in builders]
        ends = self._drafted.begin(rows)
        spans: list[Segment] = []
        before: list[Slots] = []
        with ExitStack() as undo:
            for row, end in zip(rows, ends, strict=True):
                table = pages_of(row).table
                places = 1 + self._runner.unread(table[1:])  # without those that a row before reads
                self._runner.mark(table[places], read=True)
                undo.callback(self._runner.mark, table[places], read=False)
                whole = np.append(table, end)
                for first, last in _runs(np.append(places, len(table))):
                    wanted = [last - first - 1] if last == len(whole) else []
                    own, context = whole[first:last], table[1:first]
                    spans.append(Segment(row.tokens[first:last], own, context, self._root, wanted=wanted))
                    before.append(whole[first - 1 : last - 1])
            logits, rows_of = self._pairs.forward(spans, before)
            undo.pop_all()
        self.note(rows)
        return _in_order(logits, rows_of)

    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`."""
        nodes = [(builder, node) for builder in builders for node in builder.growing]
        slots = self._drafted.add(nodes)
        spans, before = [], []
        for (builder, node), slot in zip(nodes, slots, strict=True):
            above = self._drafted.above(builder, node)
            context = np.concatenate((pages_of(builder.row).table[1:], above))
            spans.append(Segment([builder.draft.tokens[node]], np.array([slot]), context, self._root, wanted=[0]))
            before.append(above[-1:])
        logits, own = self._pairs.forward(spans, before)
        return _in_order(logits, own)

    def free_drafts(self) -> None:
        """See :class:`.PrefixReader`."""
        self._drafted.free()

    @property
    def _root(self) -> RadixNode:
        """Of the prefix cache: no prefix is attended to for several segments at once."""
        return self._runner.forest.root


def _in_order(logits: torch.Tensor, rows: Sequence[range]) -> torch.Tensor:
    """The rows of logits (R, V) of one segment after another."""
    places = [place for own in rows for place in own]
    return logits if places == list(range(len(logits))) else logits[places]


def _runs(places: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and one past the last of every run of ascending places."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(places, breaks)]
