"""Stretches of the prefix forest that several segments of a pass have in common, at any number of levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..kv_cache.radix_node import RadixNode
from .segment import Segment

LEAST = 64
"""Keys that reading a stretch once must save. A stretch costs each of its tokens one partial result for each head,
which is written and read once, as many bytes as a few keys; a size to be measured on a GPU."""


@dataclass(frozen=True, slots=True)
class SharedRun:
    """The keys ``start`` to ``end`` of the texts of some segments, which are the same for all of them."""

    start: int
    end: int
    members: tuple[int, ...]
    """Places of the segments."""


def shared_runs(spans: Sequence[Segment]) -> tuple[list[SharedRun], list[int]]:
    """The runs, none of which overlap, and for each segment the number of keys that its runs cover, from the first on.

    A run ends where its segments part. One that would save fewer than ``LEAST`` keys is left to those below it.
    """
    below: dict[RadixNode, list[int]] = {}
    for place, span in enumerate(spans):
        for node in span.node.path():
            below.setdefault(node, []).append(place)
    runs: list[SharedRun] = []
    covered = [0] * len(spans)
    for place, span in enumerate(spans):
        path = span.node.path()
        for node, follower in zip(path, [*path[1:], None], strict=False):
            members = below[node]
            if len(members) < 2:
                break
            if members[0] != place or (follower is not None and len(below[follower]) == len(members)):
                continue  # the first member makes the run, at the last node that all members have
            start = covered[place]
            if (len(members) - 1) * (node.end - start) >= LEAST:
                runs.append(SharedRun(start, node.end, tuple(members)))
                for member in members:
                    covered[member] = node.end
    return runs, covered
