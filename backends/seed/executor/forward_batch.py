"""One target pass over a forest: the new tokens of all branches packed in a row, and the mask of their attention.

A :class:`Segment` is a run or a small tree of new tokens after one context. A pass packs the segments of a round in one
row of T tokens. Keys and values of contexts stay in their slots; a prefix that several spans share is attended to once
for all of them (cascade attention) and merged with each span's private part by log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..kv_cache.pool import Slots
from ..kv_cache.radix_tree import RadixNode
from .buckets import partition
from .pass_work import PassWork

SHARED_LEAST = 1500
"""Keys (span by span) that attending to a shared prefix once must save before it pays: below that the second attention
call costs more than gathering the keys for every span (measured, 2 cores: break-even between 4 and 6 rows of 360)."""


@dataclass(slots=True, eq=False)
class Segment:
    """New tokens after one context."""

    tokens: Sequence[int]
    slots: Slots
    """Slots for the keys and values of the new tokens (n,)."""
    context: Slots
    """Slots of everything before them; its length is the position of the first new token."""
    node: RadixNode
    """Deepest node of the prefix forest on the context's path."""
    parents: Sequence[int] | None = None
    """For a tree, the index of each token's parent (-1: none); None for a chain."""
    wanted: Sequence[int] = ()
    """Tokens whose logits are wanted, ascending."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Tokens of the context, new tokens, and those whose logits are wanted."""
        return len(self.context), len(self.tokens), len(self.wanted)

    def depths(self) -> list[int]:
        """Distance of each token from the context's end, 0 for the first."""
        if self.parents is None:
            return list(range(len(self.tokens)))
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def visible(self) -> NDArray[np.bool_]:
        """(n, n): True where a new token attends to another one, which are its ancestors and itself."""
        n = len(self.tokens)
        if self.parents is None:
            return np.tri(n, dtype=np.bool_)
        seen = np.eye(n, dtype=np.bool_)
        for token, parent in enumerate(self.parents):
            if parent >= 0:
                seen[token] |= seen[parent]
        return seen


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A prefix whose keys all tokens ``first .. last - 1`` of a pass attend to."""

    first: int
    last: int
    keys: slice | torch.Tensor
    """Its slots: a slice where they lie side by side, so that nothing is copied."""


@dataclass(slots=True, eq=False)
class PrivateSegment:
    """Spans of similar size, attended to in one call: B spans of up to n tokens with up to K private keys."""

    first: int
    last: int
    """The tokens of the pass that these spans are made of."""
    keys: torch.Tensor
    """(B * K) slots."""
    shape: tuple[int, int, int]
    """B, n, K."""
    mask: torch.Tensor | None
    """(B, 1, n, K) added to the scores: 0 or minus infinity; None where token i sees the first i + 1 keys."""
    tokens: torch.Tensor | None
    """(B * n) tokens of the pass that fill the rows, the padding repeating some token; None when no row is padded."""
    real: torch.Tensor | None
    """(last - first) where in the padded rows (B * n) each token stands; None when no row is padded."""
    folded: dict[int, torch.Tensor] = field(default_factory=dict)

    def fold(self, group: int) -> torch.Tensor | None:
        """The mask for ``group`` query heads per key head, folded into the token axis: (B, 1, n * group, K)."""
        if self.mask is None or self.mask.shape[2] == 1:
            return self.mask  # broadcast over the heads
        if group not in self.folded:
            self.folded[group] = self.mask.repeat_interleave(group, dim=2)
        return self.folded[group]


@dataclass(slots=True, eq=False)
class ForwardBatch:
    """What one pass computes; T new tokens."""

    tokens: torch.Tensor
    """(1, T)"""
    positions: torch.Tensor
    """(1, T)"""
    slots: torch.Tensor
    """(T,)"""
    wanted: torch.Tensor
    """(R,) tokens whose logits are wanted."""
    shared: list[SharedPrefix]
    private: list[PrivateSegment]
    rows: list[range]
    """For each span, in the caller's order, its rows among the R."""
    work: PassWork
    """What there is to compute."""


def make_forward_batch(spans: Sequence[Segment], dtype: torch.dtype, device: torch.device) -> ForwardBatch:
    """Pack spans so that those with a common prefix, and among them those of similar size, stand side by side."""
    groups = group_by_prefix(spans)
    packed: list[int] = []
    shared: list[SharedPrefix] = []
    private: list[PrivateSegment] = []
    start = 0
    for depth, members in groups:
        first = start
        sizes = [(len(spans[i].tokens), _keys(spans[i], depth)) for i in members]
        for bucket in partition(sizes):
            chosen = [spans[members[i]] for i in bucket]
            private.append(_private(chosen, depth, start, dtype, device))
            packed += [members[i] for i in bucket]
            start += sum(len(span.tokens) for span in chosen)
        if depth:
            shared.append(SharedPrefix(first, start, _slice(spans[members[0]].context[:depth], device)))
    tokens: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    rows = [range(0)] * len(spans)
    for i in packed:
        span, base = spans[i], len(tokens)
        rows[i] = range(len(wanted), len(wanted) + len(span.wanted))
        wanted += [base + token for token in span.wanted]
        positions += [len(span.context) + depth for depth in span.depths()]
        tokens += span.tokens
    slots = np.concatenate([spans[i].slots for i in packed])
    return ForwardBatch(
        torch.tensor([tokens], device=device),
        torch.tensor([positions], device=device),
        torch.from_numpy(slots).to(device),
        torch.tensor(wanted, dtype=torch.long, device=device),
        shared,
        private,
        rows,
        PassWork.of((depth, [spans[i].size for i in members]) for depth, members in groups),
    )


def group_by_prefix(spans: Sequence[Segment]) -> list[tuple[int, list[int]]]:
    """Groups of spans that share a prefix: (length of the prefix, spans), each span once; length 0 without one.

    Of every path at most one node ends a shared prefix; the choice saves the most keys, ``(spans - 1) * length`` each.
    """
    below: dict[RadixNode, list[int]] = {}
    children: dict[RadixNode, list[RadixNode]] = {}
    root: RadixNode | None = None
    for i, span in enumerate(spans):
        node = span.node
        while True:
            known = node in below
            below.setdefault(node, []).append(i)
            if node.parent is None:
                root = node
                break
            if not known:
                children.setdefault(node.parent, []).append(node)
            node = node.parent
    if root is None or len(spans) == 1:
        return [(0, list(range(len(spans))))]
    order = [root]
    for node in order:
        order += children.get(node, [])
    saved: dict[RadixNode, int] = {}
    for node in reversed(order):
        apart = sum(saved[child] for child in children.get(node, []))
        together = (len(below[node]) - 1) * node.end - SHARED_LEAST
        saved[node] = max(apart, together, 0)
    groups: list[tuple[int, list[int]]] = []
    alone = set(range(len(spans)))
    stack = [root]
    while stack:
        node = stack.pop()
        apart = sum(saved[child] for child in children.get(node, []))
        if saved[node] > apart:
            groups.append((node.end, below[node]))
            alone.difference_update(below[node])
        elif saved[node] > 0:
            stack += reversed(children.get(node, []))
    if alone:
        groups.append((0, sorted(alone)))
    return groups


def _keys(span: Segment, depth: int) -> int:
    """Keys that the segment attends to after the first ``depth``."""
    return len(span.context) - depth + len(span.tokens)


def _private(
    chosen: Sequence[Segment], depth: int, first: int, dtype: torch.dtype, device: torch.device
) -> PrivateSegment:
    """One attention call for spans that stand side by side in the pass, from token ``first`` on."""
    lengths = [len(span.tokens) for span in chosen]
    n, total = max(lengths), sum(lengths)
    most = max(_keys(span, depth) for span in chosen)
    causal = n > 1 and all(len(span.context) == depth and span.parents is None for span in chosen)
    keys = np.empty((len(chosen), most), dtype=np.int64)
    for row, span in enumerate(chosen):
        own = span.context[depth:]
        end = len(own) + lengths[row]
        keys[row, : len(own)], keys[row, len(own) : end], keys[row, end:] = own, span.slots, span.slots[0]
    padded = total < n * len(chosen)
    tokens = real = None
    if padded:
        starts = first + np.cumsum([0, *lengths[:-1]])
        inside = np.arange(n)[None] < np.array(lengths)[:, None]  # (B, n)
        tokens = torch.from_numpy(np.where(inside, starts[:, None] + np.arange(n)[None], starts[:, None]).ravel()).to(
            device
        )
        real = torch.from_numpy(np.flatnonzero(inside)).to(device)
    return PrivateSegment(
        first,
        first + total,
        torch.from_numpy(keys.ravel()).to(device),
        (len(chosen), n, most),
        None if causal else torch.from_numpy(_mask(chosen, depth, n, most)[:, None]).to(device=device, dtype=dtype),
        tokens,
        real,
    )


def _mask(chosen: Sequence[Segment], depth: int, n: int, most: int) -> NDArray[np.float32]:
    """Additive mask (B, n, K) over the private keys of each span: 0 or minus infinity."""
    mask = np.full((len(chosen), n, most), -np.inf, dtype=np.float32)
    for row, span in enumerate(chosen):
        before, new = len(span.context) - depth, len(span.tokens)
        mask[row, :, :before] = 0.0
        if new == 1:
            mask[row, :, before] = 0.0  # of a padded row too, which must see something
        else:
            mask[row, :new, before : before + new][span.visible()] = 0.0
            mask[row, new:, before] = 0.0
    return mask


def _slice(slots: Slots, device: torch.device) -> slice | torch.Tensor:
    low, count = int(slots[0]), len(slots)
    if int(slots[-1]) - low == count - 1 and bool((np.diff(slots) == 1).all()):
        return slice(low, low + count)
    return torch.from_numpy(slots.copy()).to(device)
