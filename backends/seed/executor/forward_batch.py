"""One target pass over a forest: the new tokens of all branches packed in a row, and the calls of their attention.

A pass packs the segments of a round in one row of T tokens. A prefix that several segments share is attended to once
for all of them (cascade attention) and merged with each one's private part by log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..kernels.attention_table import AttentionTiles
from ..kv_cache.pool import Slots
from ..kv_cache.radix_node import RadixNode
from .attention_call import AttentionCall, make_call, private_keys
from .attention_tiles import TileLayout
from .buckets import partition
from .pass_work import PassWork
from .segment import Segment
from .token_keys import TokenKeys
from .window_calls import WindowCalls

SHARED_LEAST = 1500
"""Keys (span by span) that attending to a shared prefix once must save before it pays: below that the second attention
call costs more than gathering the keys for every span (measured, 2 cores: break-even between 4 and 6 rows of 360)."""


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A prefix whose keys some tokens of a pass attend to."""

    tokens: slice | torch.Tensor
    """These tokens; a slice where they stand side by side."""
    keys: slice | torch.Tensor
    """Its slots: a slice where they lie side by side, so that nothing is copied."""


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
    calls: list[AttentionCall]
    """Attention to private keys; the queries of one call after the other, (B * n) each, are P in all."""
    padded: torch.Tensor | None
    """(P,) tokens of the pass that are the queries, the padding repeating some token; None when nothing is padded."""
    real: torch.Tensor | None
    """(T,) where each token stands among the P; None when nothing is padded."""
    rows: list[range]
    """For each span, in the caller's order, its rows among the R."""
    work: PassWork
    """What there is to compute."""
    keys: TokenKeys | None = None
    """What each token attends to, for attention in place; there are no calls then."""
    segments: Sequence[Segment] = ()
    """What was packed, in the caller's order."""
    starts: Sequence[int] = ()
    """Where the tokens of each segment begin among the T."""
    windows: WindowCalls | None = None
    """The calls of layers with a window; None for tiles, and for attention in place, which has no such layers."""
    tiles: AttentionTiles | None = None
    """What each token attends to, for the kernel of a GPU and for passes of fixed size; there are no calls then."""
    by_row: ForwardBatch | None = None
    """The same pass over the rows of layers with windows; None where slots hold their keys and values."""


def make_forward_batch(
    spans: Sequence[Segment], dtype: torch.dtype, device: torch.device, in_place: bool = False, tile_queries: int = 0
) -> ForwardBatch:
    """Pack spans so that those of similar size stand side by side.

    For attention ``in_place``, and for tiles of at most ``tile_queries`` where that is not 0, they stand as they come.
    """
    if in_place:
        work = PassWork.of([(0, [span.size for span in spans])])
        return replace(as_they_come(spans, device, work), keys=TokenKeys.of(spans))
    if tile_queries:
        tiles = TileLayout(spans, tile_queries).on(device)
        return replace(as_they_come(spans, device, work_of(spans)), tiles=tiles)
    return _by_prefix(spans, dtype, device)


def _by_prefix(spans: Sequence[Segment], dtype: torch.dtype, device: torch.device) -> ForwardBatch:
    """Segments side by side that share a prefix, and within these segments of similar size."""
    groups = group_by_prefix(spans)
    depths = [0] * len(spans)
    for depth, members in groups:
        for i in members:
            depths[i] = depth
    order = [i for _, members in groups for i in members]
    sizes = [(len(spans[i].tokens), private_keys(spans[i], depths[i])) for i in order]
    buckets = [[order[place] for place in places] for places in partition(sizes)]
    calls = [make_call([spans[i] for i in members], [depths[i] for i in members], dtype, device) for members in buckets]
    packed = [i for members in buckets for i in members]
    batch = as_they_come([spans[i] for i in packed], device, _work(spans, groups))
    rows, starts = [range(0)] * len(spans), [0] * len(spans)
    for i, own_rows, start in zip(packed, batch.rows, batch.starts, strict=True):
        rows[i], starts[i] = own_rows, start
    lengths = [len(spans[i].tokens) for i in packed]
    padded, real = _padding(lengths, [call.shape[1] for call in calls for _ in range(call.shape[0])], device)
    return replace(
        batch,
        shared=_shared_prefixes(spans, groups, starts, device),
        calls=calls,
        padded=padded,
        real=real,
        rows=rows,
        segments=spans,
        starts=starts,
        windows=WindowCalls([[spans[i] for i in members] for members in buckets], dtype, device),
    )


def _shared_prefixes(
    spans: Sequence[Segment], groups: Sequence[tuple[int, list[int]]], starts: Sequence[int], device: torch.device
) -> list[SharedPrefix]:
    """The prefix of each group that has one; ``starts``: where the tokens of each segment begin."""
    shared: list[SharedPrefix] = []
    for depth, members in groups:
        if depth:
            own = [np.arange(starts[i], starts[i] + len(spans[i].tokens)) for i in members]
            common = spans[members[0]].context[:depth]
            shared.append(SharedPrefix(run_of(np.sort(np.concatenate(own)), device), run_of(common, device)))
    return shared


def work_of(spans: Sequence[Segment]) -> PassWork:
    """What a pass over tiles computes."""
    return _work(spans, group_by_prefix(spans))


def _work(spans: Sequence[Segment], groups: Sequence[tuple[int, list[int]]]) -> PassWork:
    return PassWork.of((depth, [spans[i].size for i in members]) for depth, members in groups)


def as_they_come(
    spans: Sequence[Segment], device: torch.device, work: PassWork, size: int | None = None, scratch: int = 0
) -> ForwardBatch:
    """A batch whose segments stand in the caller's order, without anything to attend to yet.

    It is padded to ``size`` tokens, whose keys and values go to the slot ``scratch``.
    """
    count = sum(len(span.tokens) for span in spans)
    tokens, positions = np.zeros((2, 1, count if size is None else size), dtype=np.int64)
    slots = np.full(tokens.shape[1], scratch, dtype=np.int64)
    wanted: list[int] = []
    rows: list[range] = []
    starts: list[int] = []
    base = 0
    for span in spans:
        end = base + len(span.tokens)
        starts.append(base)
        rows.append(range(len(wanted), len(wanted) + len(span.wanted)))
        wanted += [base + token for token in span.wanted]
        positions[0, base:end] = np.array(span.depths()) + len(span.context)
        tokens[0, base:end], slots[base:end] = span.tokens, span.slots
        base = end
    return ForwardBatch(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(positions).to(device),
        torch.from_numpy(slots).to(device),
        torch.tensor(wanted, dtype=torch.long, device=device),
        [],
        [],
        None,
        None,
        rows,
        work,
        segments=spans,
        starts=starts,
    )


def _padding(
    tokens: Sequence[int], queries: Sequence[int], device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """``padded`` and ``real`` of a batch, from the tokens and the queries of each segment."""
    lengths, widths = np.array(tokens), np.array(queries)
    if (lengths == widths).all():
        return None, None
    segment = np.repeat(np.arange(len(widths)), widths)  # (P,) of which segment each query is
    inside = np.arange(len(segment)) - (np.cumsum(widths) - widths)[segment]  # its place in the segment
    real = inside < lengths[segment]
    token = (np.cumsum(lengths) - lengths)[segment] + np.where(real, inside, 0)
    return torch.from_numpy(token).to(device), torch.from_numpy(np.flatnonzero(real)).to(device)


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


def run_of(slots: Slots, device: torch.device) -> slice | torch.Tensor:
    """A slice where slots lie side by side, else all of them on the device."""
    low, count = int(slots[0]), len(slots)
    if int(slots[-1]) - low == count - 1 and bool((np.diff(slots) == 1).all()):
        return slice(low, low + count)
    return torch.from_numpy(slots.copy()).to(device)
