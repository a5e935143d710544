"""Counts passes by the ratio of measured to predicted seconds and by rows, for quantiles of that ratio."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

ROWS = (1, 4, 16, 64)
"""Most rows of each class but the last one."""

WIDTH, BINS = 0.08, 40
"""Width of a bin in the natural logarithm of the ratio, and bins of a class, with a ratio of 1 in the middle."""

SIZE = (len(ROWS) + 1) * BINS
"""Counts of all classes."""


def place(rows: int, ratio: float) -> int:
    """The index of a pass among the counts."""
    at = math.floor(math.log(ratio) / WIDTH + BINS / 2)
    return bisect_left(ROWS, rows) * BINS + min(max(at, 0), BINS - 1)


def by_rows(counts: Sequence[int]) -> list[Sequence[int]]:
    """The counts of each class."""
    return [counts[start : start + BINS] for start in range(0, SIZE, BINS)]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The ratio below which this share of the passes is, even within a bin; None without passes."""
    below, left = 0, share * sum(counts)
    for at, count in enumerate(counts):
        if count and below + count >= left:
            inside = (left - below) / count
            return round(math.exp((at + inside - BINS / 2) * WIDTH), 3)
        below += count
    return None
