"""Prompts that a round reads, in chunks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kv_cache.page_table import PageTable
from ..kv_cache.radix_tree import RadixNode
from .forward_batch import Segment


class PrefillChunk:
    """The uncomputed prompt tokens that one pass reads: the spans, and which branches can go on in the same pass."""

    def __init__(self, branches: Iterable[PageTable], limit: int) -> None:
        """Whole nodes from the top down, branch after branch, up to ``limit`` tokens (one at least)."""
        self.spans: list[Segment] = []
        self.ready: list[PageTable] = []
        self._taken: dict[RadixNode, int] = {}
        self.tokens = 0
        for branch in branches:
            if all(self._take(node, limit - self.tokens) for node in branch.missing()):
                self.ready.append(branch)

    def _take(self, node: RadixNode, room: int) -> bool:
        """Read what is left of a node, or as much as there is room for; whether it is whole then."""
        left = len(node.tokens) - node.computed
        if node not in self._taken:
            take = min(left, room)
            if take <= 0:
                return False
            above = [above.slots for above in node.path()]
            end = node.start + node.computed
            context = np.concatenate(above)[:end] if above else np.zeros(0, dtype=np.int64)
            run = slice(node.computed, node.computed + take)
            assert node.parent is not None  # noqa: S101  # the root has no tokens to read
            self.spans.append(Segment(node.tokens[run], node.slots[run], context, node.parent))
            self._taken[node] = take
            self.tokens += take
        return self._taken[node] == left

    def done(self) -> None:
        """The pass has been made: what it read is computed."""
        for node, take in self._taken.items():
            node.computed += take
