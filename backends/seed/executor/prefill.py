"""Chunked prefill: the prompt tokens that one pass computes."""

from __future__ import annotations

from collections.abc import Iterable

from ..kv_cache.page_table import PageTable
from ..kv_cache.pool import Slots
from ..kv_cache.radix_node import RadixNode, slots_of
from ..kv_cache.window_rows import WindowRows
from .segment import Segment


class PrefillChunk:
    """Uncomputed prompt tokens for one pass, and the page tables that are complete after it."""

    def __init__(self, branches: Iterable[PageTable], limit: int) -> None:
        """Nodes from the top down, one page table after another, at most ``limit`` tokens."""
        self.spans: list[Segment] = []
        self.ready: list[PageTable] = []
        self._taken: dict[RadixNode, int] = {}
        """Nodes to the number of tokens up to which they are read after the pass."""
        self._ends: list[tuple[WindowRows, Slots]] = []
        """For layers with windows, the slots of the texts up to the ends of the nodes that are then complete."""
        self.tokens = 0
        self.add(branches, limit)

    def add(self, branches: Iterable[PageTable], limit: int) -> int:
        """Add the prompts of more page tables, at most ``limit`` tokens; returns the number of tokens added."""
        before = self.tokens
        for branch in branches:
            windows = branch.forest.pool.windows
            if windows is not None:  # what is read for a branch before may complete its window by part of a snapshot
                windows.hold(branch.window())
            missing = branch.missing()
            left = limit + before
            if not missing or all(self._take(node, known, left - self.tokens, windows) for node, known in missing):
                self.ready.append(branch)
        return self.tokens - before

    def missing(self, branches: Iterable[PageTable]) -> int:
        """Uncomputed prompt tokens of page tables that this pass does not compute."""
        nodes = {node: known for branch in branches for node, known in branch.missing()}
        return sum(len(node.tokens) - self._taken.get(node, known) for node, known in nodes.items())

    def _take(self, node: RadixNode, known: int, room: int, windows: WindowRows | None) -> bool:
        """Add a node but its ``known`` first tokens, or at most ``room`` tokens; whether the node is then complete."""
        if node not in self._taken:
            take = min(len(node.tokens) - known, room)
            if take <= 0:
                return False
            path = slots_of(node.path())
            context = path[: node.start + known]
            run = slice(known, known + take)
            if windows is not None:
                windows.take(node.slots[run])
                if known + take == len(node.tokens):
                    self._ends.append((windows, path))
            assert node.parent is not None  # noqa: S101  # the root has no tokens
            self.spans.append(Segment(node.tokens[run], node.slots[run], context, node.parent))
            self._taken[node] = known + take
            self.tokens += take
        return self._taken[node] == len(node.tokens)

    def done(self) -> None:
        """Record the tokens as computed, after the pass; texts may begin again where their runs end."""
        for node, end in self._taken.items():
            node.mark_computed(max(0, end - node.computed))
        for windows, slots in self._ends:
            windows.keep(slots)
