"""The prefix forest: every distinct prefix of tokens is stored once, whoever uses it.

A radix tree over token ids (RadixAttention, Zheng et al., arXiv 2312.07104); an edge carries a run of tokens and the
slots of their keys and values. Prompts enter when a sequence joins and are computed by a later pass (``computed`` says
how far that is); generated tokens enter when they are verified. A sequence pins the node it ends at, and with it all
above. Unpinned leaves are evicted, least recently used first, when memory is wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .pool import SlotPool, Slots


@dataclass(slots=True, eq=False)
class RadixNode:
    """A run of tokens after its parent's."""

    tokens: list[int]
    slots: Slots
    parent: RadixNode | None
    start: int
    """Position of its first token."""
    computed: int = 0
    """Tokens of the run whose keys and values are in their slots."""
    pins: int = 0
    """Sequences that end here."""
    used: int = 0
    """Time of the last use."""
    children: dict[int, RadixNode] = field(default_factory=dict)
    """By first token."""

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)

    def path(self) -> list[RadixNode]:
        """The nodes from the first below the root down to this one."""
        nodes: list[RadixNode] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


class OutOfMemory(Exception):
    """Not enough slots even after evicting everything that nobody uses; the scheduler preempts a sequence then."""


class RadixCache:
    """The radix tree over one pool."""

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        self.root = RadixNode([], np.zeros(0, dtype=np.int64), None, 0)
        self._clock = 0

    def allocate(self, count: int) -> Slots:
        """Free slots, evicting what nobody uses if need be. Raises OutOfMemory."""
        self.make_room(count)
        return self.pool.allocate(count)

    def make_room(self, count: int) -> None:
        """Evict until ``count`` slots can be had. Raises OutOfMemory."""
        if count > self.pool.room:
            self.evict(count - self.pool.room)
        if count > self.pool.room:
            raise OutOfMemory

    def join(self, tokens: Sequence[int]) -> tuple[RadixNode, int]:
        """Pin the node that ends exactly after ``tokens``, adding what is missing, to be computed by a coming pass.

        Returns the node and how many of the tokens were there already (computed, or on their way for another
        sequence). Raises OutOfMemory, leaving nothing behind.
        """
        node, matched = self._descend(tokens)
        node.pins += 1  # before anything is evicted
        self._touch(node)
        if matched == len(tokens):
            return node, matched
        try:
            slots = self.allocate(len(tokens) - matched)
        except OutOfMemory:
            node.pins -= 1
            raise
        node.pins -= 1
        below = self._add(node, list(tokens[matched:]), slots)
        below.pins += 1
        return below, matched

    def extend(self, node: RadixNode, tokens: Sequence[int], slots: Slots) -> tuple[RadixNode, Slots]:
        """Move a pin from ``node`` to the end of verified ``tokens`` after it, whose keys and values are in ``slots``.

        Where the forest has a token already, its slot is adopted and the given one freed. Returns the new node and the
        slots (len(tokens),) that hold the tokens now.
        """
        node.pins -= 1
        held = slots.copy()
        done = 0
        while done < len(tokens) and (child := node.children.get(tokens[done])) is not None:
            shared = _common(child.tokens[: child.computed], tokens, done)
            if shared == 0:  # another sequence is about to compute it; keep our own, computed one instead of waiting
                break
            if shared < len(child.tokens):
                child = self._split(child, shared)
            self.pool.free(slots[done : done + shared])
            held[done : done + shared] = child.slots
            done += shared
            node = child
        if done < len(tokens):
            node = self._append(node, list(tokens[done:]), slots[done:])
        node.pins += 1
        self._touch(node)
        return node, held

    def leave(self, node: RadixNode, *, keep: bool) -> None:
        """Unpin; ``keep`` leaves the tokens for later use, otherwise what only this sequence used is freed at once.

        Tokens that were never computed are freed in any case.
        """
        node.pins -= 1
        current: RadixNode | None = node
        while current is not None and current.parent is not None and not current.pins and not current.children:
            if keep and current.computed:
                self._trim(current)
                return
            current = self._remove(current)

    def evict(self, count: int) -> int:
        """Free at least ``count`` slots of unpinned leaves if there are that many; how many were freed."""
        freed = 0
        heap = [(node.used, id(node), node) for node in self.nodes() if self._evictable(node)]
        heapq.heapify(heap)
        while heap and freed < count:
            _, _, node = heapq.heappop(heap)
            freed += len(node.tokens)
            parent = self._remove(node)
            if parent is not None and self._evictable(parent):
                heapq.heappush(heap, (parent.used, id(parent), parent))
        return freed

    def nodes(self) -> Iterator[RadixNode]:
        """All nodes but the root, parents first."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    @property
    def tokens(self) -> int:
        """Distinct tokens held."""
        return sum(len(node.tokens) for node in self.nodes())

    def check(self) -> None:
        """Raise AssertionError where the forest contradicts itself or its pool."""
        seen: set[int] = set()
        for node in self.nodes():
            assert node.tokens, "an empty run"  # noqa: S101  # an integrity check
            assert len(node.tokens) == len(node.slots), "a run without its slots"  # noqa: S101
            assert 0 <= node.computed <= len(node.tokens), "computed beyond its end"  # noqa: S101
            assert node.pins >= 0, "unpinned twice"  # noqa: S101
            assert node.parent is not None, "no parent"  # noqa: S101
            assert node.start == node.parent.end, "a gap between parent and child"  # noqa: S101
            assert node.parent.children.get(node.tokens[0]) is node, "its parent does not know it"  # noqa: S101
            if node.computed:
                assert node.parent.computed == len(node.parent.tokens), "computed before its parent"  # noqa: S101
            assert not self.pool.is_free(node.slots), "a free slot in use"  # noqa: S101
            assert seen.isdisjoint(node.slots.tolist()), "a slot used twice"  # noqa: S101
            seen.update(node.slots.tolist())

    def _evictable(self, node: RadixNode) -> bool:
        return node.parent is not None and not node.pins and not node.children

    def _touch(self, node: RadixNode) -> None:
        self._clock += 1
        current: RadixNode | None = node
        while current is not None:
            current.used = self._clock
            current = current.parent

    def _descend(self, tokens: Sequence[int]) -> tuple[RadixNode, int]:
        """The deepest node whose path is a beginning of ``tokens``, split so that the path ends there."""
        node, done = self.root, 0
        while done < len(tokens) and (child := node.children.get(tokens[done])) is not None:
            shared = _common(child.tokens, tokens, done)
            done += shared
            if shared < len(child.tokens):
                return self._split(child, shared), done
            node = child
        return node, done

    def _add(self, parent: RadixNode, tokens: list[int], slots: Slots, computed: int = 0) -> RadixNode:
        node = RadixNode(tokens, slots, parent, parent.end, computed)
        parent.children[tokens[0]] = node
        self._touch(node)
        return node

    def _append(self, node: RadixNode, tokens: list[int], slots: Slots) -> RadixNode:
        """Verified tokens after a node: in the node itself when it is this sequence's alone, else as a child."""
        whole = node.computed == len(node.tokens)
        if node.parent is not None and whole and not node.pins and not node.children:
            node.tokens += tokens
            node.slots = np.concatenate((node.slots, slots))
            node.computed += len(tokens)
            return node
        taken = node.children.get(tokens[0])
        if taken is not None:  # not computed yet by whoever asked for it: ours serves them as well
            return self._compute(taken, tokens, slots)
        return self._add(node, tokens, slots, computed=len(tokens))

    def _compute(self, child: RadixNode, tokens: list[int], slots: Slots) -> RadixNode:
        """Verified tokens where uncomputed ones wait: their own slots are replaced by the computed ones."""
        shared = _common(child.tokens, tokens, 0)
        if shared < len(child.tokens):
            child = self._split(child, shared)
        self.pool.free(child.slots)
        child.slots, child.computed = slots[:shared].copy(), shared
        if shared == len(tokens):
            return child
        return self._append(child, tokens[shared:], slots[shared:])

    def _split(self, node: RadixNode, at: int) -> RadixNode:
        """Cut a run in two; returns the upper node, which is new, so that pins stay where the run ends."""
        parent = node.parent
        assert parent is not None  # noqa: S101  # the root has no run to split
        upper = RadixNode(node.tokens[:at], node.slots[:at], parent, node.start, min(at, node.computed), 0, node.used)
        parent.children[node.tokens[0]] = upper
        upper.children[node.tokens[at]] = node
        node.tokens, node.slots = node.tokens[at:], node.slots[at:]
        node.computed, node.start, node.parent = max(0, node.computed - at), node.start + at, upper
        return upper

    def _trim(self, node: RadixNode) -> None:
        """Free the end of a run that was never computed."""
        self.pool.free(node.slots[node.computed :])
        del node.tokens[node.computed :]
        node.slots = node.slots[: node.computed]

    def _remove(self, node: RadixNode) -> RadixNode | None:
        self.pool.free(node.slots)
        assert node.parent is not None  # noqa: S101  # the root is never removed
        del node.parent.children[node.tokens[0]]
        parent, node.parent = node.parent, None
        return parent


def _common(run: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many tokens from ``tokens[start]`` on equal the run's."""
    length = min(len(run), len(tokens) - start)
    if list(run[:length]) == list(tokens[start : start + length]):
        return length
    return next(i for i in range(length) if run[i] != tokens[start + i])
