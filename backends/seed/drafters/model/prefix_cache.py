"""A draft model that attends to its target's own keys and values, and keeps none of its own after a draft.

It computes the last token of each sequence, which the target has not computed yet, and the nodes of the draft, in slots
of the target's pool that are free again when the draft is complete. So it reads no prompt and no committed token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...executor.segment import Segment
from ...executor.shared_pool import SharedPoolRunner
from ...records import SequenceState
from .draft_slots import DraftSlots
from .prefix_drafter import PrefixReader, pages_of
from .tree_builder import TreeBuilder


class PrefixCache(PrefixReader):
    """Reads the last tokens of sequences and their drafts with one draft model. V vocabulary."""

    def __init__(self, runner: SharedPoolRunner) -> None:
        self._runner, self._drafted = runner, DraftSlots(runner)

    def __contains__(self, row: SequenceState) -> bool:
        return True

    def unread(self, rows: Sequence[SequenceState]) -> int:
        """See :class:`DraftReader`: none."""
        return 0

    def catch_up(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`. All sequences can be read."""
        rows = [builder.row for builder in builders]
        slots = self._drafted.begin(rows)[:, None]
        pages = map(pages_of, rows)
        return self._forward(
            [
                Segment(row.tokens[-1:], slot, own.table, own.node, wanted=[0])
                for row, slot, own in zip(rows, slots, pages, strict=True)
            ]
        )

    def step(self, builders: Sequence[TreeBuilder]) -> torch.Tensor:
        """See :class:`DraftReader`."""
        nodes = [(builder, node) for builder in builders for node in builder.growing]
        segments: list[Segment] = []
        for (builder, node), slot in zip(nodes, self._drafted.add(nodes)[:, None], strict=True):
            pages = pages_of(builder.row)
            context = np.concatenate((pages.table, self._drafted.above(builder, node)))
            segments.append(Segment([builder.draft.tokens[node]], slot, context, pages.node, wanted=[0]))
        return self._forward(segments)

    def forget(self, row: SequenceState) -> None:
        """See :class:`DraftReader`: nothing is held between drafts."""

    def rows(self) -> list[SequenceState]:
        """See :class:`DraftReader`."""
        return []

    def free_drafts(self) -> None:
        """See :class:`PrefixReader`."""
        self._drafted.free()

    def _forward(self, segments: Sequence[Segment]) -> torch.Tensor:
        """Logits (n, V) in the order of the segments, one each."""
        logits, rows = self._runner.forward(segments)
        places = [own.start for own in rows]
        return logits if places == list(range(len(places))) else logits[places]
