"""Which segments share an attention call, where the smaller ones are padded."""

from __future__ import annotations

import math
from collections.abc import Sequence

CALL = 320
"""Keys that one more attention call costs as much as: padding below that is cheaper (measured: 60 microseconds)."""

PER_QUERY = 1 / 16
"""What a further query of a segment costs for each of its keys, as a share of reading the key."""

NARROW = 16
"""Segments of more tokens do not share a call with smaller ones, such as drafts."""


def partition(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Buckets of segments, given each one's (new tokens, private keys): of those in the order of keys the cheapest.

    A call costs :data:`CALL` and, for each of its segments, the most keys, times a share for the most new tokens.
    """
    classes: dict[tuple[bool, int], list[int]] = {}
    for i, (new, keys) in enumerate(sizes):
        grain = max(3, keys.bit_length() - 4)  # at most 16 classes for each doubling of the length
        classes.setdefault((new > NARROW, -(-keys >> grain) << grain), []).append(i)
    order = sorted(classes)
    extents = [(len(classes[name]), *map(max, zip(*(sizes[i] for i in classes[name]), strict=True))) for name in order]
    least, cuts = [0.0], [0]  # the cost of the first classes, and where their last bucket begins
    for end in range(1, len(order) + 1):
        count = new = keys = 0
        best, cut = math.inf, 0
        for start in range(end - 1, -1, -1):
            if order[start][0] != order[end - 1][0]:
                break
            more, widest, longest = extents[start]
            count, new, keys = count + more, max(new, widest), max(keys, longest)
            cost = least[start] + CALL + count * keys * (1 + PER_QUERY * new)
            if cost < best:
                best, cut = cost, start
        least.append(best)
        cuts.append(cut)
    buckets: list[list[int]] = []
    end = len(order)
    while end:
        buckets.append([i for name in order[cuts[end] : end] for i in classes[name]])
        end = cuts[end]
    return buckets
