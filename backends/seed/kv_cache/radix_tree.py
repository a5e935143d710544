"""Radix cache: every distinct prefix of tokens is stored once and shared by all sequences.

A radix tree over token ids (RadixAttention, Zheng et al., arXiv 2312.07104); an edge carries a run of tokens and the
slots of their keys and values. A prompt is inserted when its sequence is admitted and computed by a later pass
(``computed`` counts its finished tokens); generated tokens are inserted when they are verified. A sequence holds a
reference to the node it ends at, which protects the whole path. Leaves without references are evicted, least recently
used first, when slots run out, and when more tokens are without a reference than the cache may keep.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from .pool import SlotPool, Slots
from .radix_node import RadixNode, slots_of


class OutOfMemory(Exception):
    """Not enough slots even after evicting every unreferenced prefix; the scheduler then preempts a sequence."""


class RadixCache:
    """The radix tree over one pool."""

    def __init__(self, pool: SlotPool, keep: int | None = None) -> None:
        """``keep``: the most tokens without a reference, or as many as ever had one, and an eighth; None: no limit."""
        self.pool = pool
        self.root = RadixNode([], np.zeros(0, dtype=np.int64), None, 0)
        self._clock = 0
        self._keep = keep
        self._count_at = 0 if keep is None else keep + keep // 8
        """Slots in use from which on tokens without a reference are counted."""

    def allocate(self, count: int) -> Slots:
        """Free slots (count,), evicting unreferenced prefixes if needed. Raises OutOfMemory."""
        self.make_room(count)
        return self.pool.allocate(count)

    def make_room(self, count: int, rows: int | None = None) -> None:
        """Evict until ``count`` slots can be had, and ``rows`` of layers with windows (as many). Raises OutOfMemory.

        Snapshots of windows go last: they are of texts that sequences use.
        """
        windows = self.pool.windows
        while short := self.pool.short(count, count if rows is None else rows):
            if not self.evict(short) and (windows is None or not windows.drop_snapshots(short)):
                raise OutOfMemory

    def match_prefix(self, tokens: Sequence[int]) -> tuple[RadixNode, int]:
        """Reference the node that ends exactly after ``tokens``; missing tokens are inserted, to be computed later.

        Returns the node and the number of tokens that were present (computed, or scheduled for another sequence).
        Raises OutOfMemory and leaves the cache unchanged.
        """
        node, matched = self._descend(tokens)
        node.ref_count += 1  # protects the match from the eviction below
        self._touch(node)
        if matched == len(tokens):
            return node, matched
        try:
            slots = self._allocate_unread(len(tokens) - matched)
        except OutOfMemory:
            node.ref_count -= 1
            raise
        node.ref_count -= 1
        below = self._add(node, list(tokens[matched:]), slots)
        below.ref_count += 1
        self._evict_beyond_limit()
        return below, matched

    def extend(self, node: RadixNode, tokens: Sequence[int], slots: Slots) -> tuple[RadixNode, Slots]:
        """Move a reference from ``node`` to the end of verified ``tokens`` (n) after it, stored in ``slots`` (n,).

        Where the cache has a token already, its slot is used and the given one freed. Returns the new node and the
        slots (len(tokens),) that hold the tokens now.
        """
        if node.is_own:
            return self._append_own(node, tokens, slots), slots
        node.ref_count -= 1
        held, done = slots, 0
        while done < len(tokens) and (child := node.children.get(tokens[done])) is not None:
            shared = _common(child.tokens[: child.computed], tokens, done)
            if shared == 0:  # scheduled for another sequence and not computed yet: use the computed slot
                break
            if shared < len(child.tokens):
                child = self._split(child, shared)
            self.pool.replace(slots[done : done + shared], child.slots)
            if not done:
                held = slots.copy()
            held[done : done + shared] = child.slots
            done += shared
            node = child
        if done < len(tokens):
            node = self._append(node, list(tokens[done:]), slots[done:])
        node.ref_count += 1
        return node, held

    def unread(self, node: RadixNode) -> list[tuple[RadixNode, int]]:
        """The nodes that must be read before a text can go on after ``node``, and from which of their tokens on.

        From the top down: what is not computed and, of models with states, what follows the nearest state; of models
        with windows what follows the nearest token with a whole window.
        """
        states, windows = self.pool.states, self.pool.windows
        if windows is not None:
            path = node.path()
            known = windows.known(slots_of(path)[: sum(above.computed for above in path)])
            return [(above, max(0, known - above.start)) for above in path if above.end > known]
        if states is None:
            return [(above, above.computed) for above in node.path() if not above.complete]
        nodes: list[tuple[RadixNode, int]] = []
        for above in reversed(node.path()):
            known = states.known(above.slots[: above.computed])
            if known < len(above.tokens):
                nodes.append((above, known))
            if known:
                break
        return nodes[::-1]

    def _allocate_unread(self, count: int) -> Slots:
        """Slots (count,) for a prompt, whose layers with windows need room for one window at a time."""
        rows = 0 if self.pool.windows is None else min(count, self.pool.windows.window)
        self.make_room(count, rows)
        return self.pool.allocate_unread(count, rows)

    def retain(self, node: RadixNode) -> None:
        """Add a reference, for a fork of the sequence that ends at ``node``."""
        node.ref_count += 1

    def release(self, node: RadixNode, *, keep: bool) -> None:
        """Drop a reference; ``keep`` caches the tokens, otherwise those without another reference are freed at once.

        Tokens that were never computed are freed in either case.
        """
        self._touch(node)
        node.ref_count -= 1
        current: RadixNode | None = node
        while current is not None and current.parent is not None and not current.ref_count and not current.children:
            if keep and current.computed:
                self._trim(current)
                return
            current = self._remove(current)

    def evict(self, count: int) -> int:
        """Free at least ``count`` slots of unreferenced leaves if there are that many; returns the number freed."""
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

    def unreferenced(self) -> int:
        """Tokens that no sequence uses."""
        nodes = list(self.nodes())
        used: set[RadixNode] = set()
        for node in reversed(nodes):  # children first
            if node.parent is not None and (node.ref_count or node in used):
                used.update((node, node.parent))
        return sum(len(node.tokens) for node in nodes if node not in used)

    def _evict_beyond_limit(self) -> None:
        """Evict as many tokens without a reference as there are beyond the limit."""
        if self._keep is None or self.pool.used <= self._count_at:
            return
        unreferenced = self.unreferenced()
        self._keep = max(self._keep, self.pool.used - unreferenced)
        if unreferenced > self._keep:
            self.evict(unreferenced - self._keep)
        self._count_at = self.pool.used + self._keep // 8

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
        """Raise AssertionError where the tree or its pool is inconsistent."""
        seen: set[int] = set()
        for node in self.nodes():
            assert node.tokens, "an empty run"  # noqa: S101  # an integrity check
            assert len(node.tokens) == len(node.slots), "a run without its slots"  # noqa: S101
            assert 0 <= node.computed <= len(node.tokens), "computed beyond its end"  # noqa: S101
            assert node.ref_count >= 0, "released twice"  # noqa: S101
            assert node.parent is not None, "no parent"  # noqa: S101
            assert node.start == node.parent.end, "a gap between parent and child"  # noqa: S101
            assert node.parent.children.get(node.tokens[0]) is node, "missing among its parent's children"  # noqa: S101
            if node.computed:
                assert node.parent.computed == len(node.parent.tokens), "computed before its parent"  # noqa: S101
            assert not self.pool.is_free(node.slots), "a free slot in use"  # noqa: S101
            assert seen.isdisjoint(node.slots.tolist()), "a slot used twice"  # noqa: S101
            seen.update(node.slots.tolist())
        if self.pool.windows is not None:
            self.pool.windows.check()

    def _evictable(self, node: RadixNode) -> bool:
        return node.parent is not None and not node.ref_count and not node.children

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
        """Verified tokens after a node: in the node itself when only this sequence uses it, else as a child."""
        if node.complete and not node.ref_count and not node.children and node.parent is not None:
            return self._append_own(node, tokens, slots)
        taken = node.children.get(tokens[0])
        if taken is not None:  # scheduled for another sequence, which can use the computed slots as well
            return self._compute(taken, tokens, slots)
        return self._add(node, tokens, slots, computed=len(tokens))

    def _append_own(self, node: RadixNode, tokens: Sequence[int], slots: Slots) -> RadixNode:
        """Verified tokens after a computed leaf that one sequence uses."""
        node.grow(tokens, np.concatenate((node.slots, slots)))
        return node

    def _compute(self, child: RadixNode, tokens: list[int], slots: Slots) -> RadixNode:
        """Replace the slots of uncomputed tokens by those of the same tokens, computed by another sequence."""
        shared = _common(child.tokens, tokens, 0)
        if shared < len(child.tokens):
            child = self._split(child, shared)
        self.pool.free(child.slots)
        child.slots, child.computed = slots[:shared].copy(), shared
        if shared == len(tokens):
            return child
        return self._append(child, tokens[shared:], slots[shared:])

    def _split(self, node: RadixNode, at: int) -> RadixNode:
        """Cut a run in two; returns the upper node, which is new, so that references stay at the end of the run."""
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
