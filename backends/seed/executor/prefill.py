"""Chunked prefill: the prompt tokens that one pass computes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..kv_cache.page_table import PageTable
from ..kv_cache.radix_node import RadixNode
from .segment import Segment


class PrefillChunk:
    """Uncomputed prompt tokens for one pass, and the page tables that are complete after it."""

    def __init__(self, branches: Iterable[PageTable], limit: int) -> None:
        """Nodes from the top down, one page table after another, at most ``limit`` tokens."""
        self.spans: list[Segment] = []
        self.ready: list[PageTable] = []
        self._taken: dict[RadixNode, int] = {}
        self.tokens = 0
        self.add(branches, limit)

    def add(self, branches: Iterable[PageTable], limit: int) -> int:
        """Add the prompts of more page tables, at most ``limit`` tokens; returns the number of tokens added."""
        before = self.tokens
        for branch in branches:
            if all(self._take(node, limit + before - self.tokens) for node in branch.missing()):
                self.ready.append(branch)
        return self.tokens - before

    def missing(self, branches: Iterable[PageTable]) -> int:
        """Uncomputed prompt tokens of page tables that this pass does not compute."""
        nodes = {node for branch in branches for node in branch.missing()}
        return sum(len(node.tokens) - node.computed - self._taken.get(node, 0) for node in nodes)

    def _take(self, node: RadixNode, room: int) -> bool:
        """Add the rest of a node, or at most ``room`` tokens of it; whether the node is then complete."""
        missing = len(node.tokens) - node.computed
        if node not in self._taken:
            take = min(missing, room)
            if take <= 0:
                return False
            above = [above.slots for above in node.path()]
            end = node.start + node.computed
            context = np.concatenate(above)[:end] if above else np.zeros(0, dtype=np.int64)
            run = slice(node.computed, node.computed + take)
            assert node.parent is not None  # noqa: S101  # the root has no tokens
            self.spans.append(Segment(node.tokens[run], node.slots[run], context, node.parent))
            self._taken[node] = take
            self.tokens += take
        return self._taken[node] == missing

    def done(self) -> None:
        """Record the tokens as computed, after the pass."""
        for node, take in self._taken.items():
            node.mark_computed(take)
