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
        """Nodes to the number of tokens up to which they are read after the pass."""
        self.tokens = 0
        self.add(branches, limit)

    def add(self, branches: Iterable[PageTable], limit: int) -> int:
        """Add the prompts of more page tables, at most ``limit`` tokens; returns the number of tokens added."""
        before = self.tokens
        for branch in branches:
            missing = branch.missing()
            if not missing or all(self._take(node, known, limit + before - self.tokens) for node, known in missing):
                self.ready.append(branch)
        return self.tokens - before

    def missing(self, branches: Iterable[PageTable]) -> int:
        """Uncomputed prompt tokens of page tables that this pass does not compute."""
        nodes = {node: known for branch in branches for node, known in branch.missing()}
        return sum(len(node.tokens) - self._taken.get(node, known) for node, known in nodes.items())

    def _take(self, node: RadixNode, known: int, room: int) -> bool:
        """Add a node but its ``known`` first tokens, or at most ``room`` tokens; whether the node is then complete."""
        if node not in self._taken:
            take = min(len(node.tokens) - known, room)
            if take <= 0:
                return False
            above = [above.slots for above in node.path()]
            end = node.start + known
            context = np.concatenate(above)[:end] if above else np.zeros(0, dtype=np.int64)
            run = slice(known, known + take)
            assert node.parent is not None  # noqa: S101  # the root has no tokens
            self.spans.append(Segment(node.tokens[run], node.slots[run], context, node.parent))
            self._taken[node] = known + take
            self.tokens += take
        return self._taken[node] == len(node.tokens)

    def done(self) -> None:
        """Record the tokens as computed, after the pass."""
        for node, end in self._taken.items():
            node.mark_computed(max(0, end - node.computed))
