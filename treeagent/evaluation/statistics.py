"""Statistics of evaluations: interval of a share, paired test of two runs, ranking quality of values."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959964
"""Two-sided 95 % point of the normal law."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole with its 95 % interval (Wilson, 1927)."""

    part: int
    whole: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share; None when the whole is empty."""
        return self.part / self.whole if self.whole else None


def share(part: int, whole: int) -> Share:
    """A share and its interval, which is [0, 1] when the whole is empty."""
    if not whole:
        return Share(0, 0, 0.0, 1.0)
    p = part / whole
    centre = (p + Z * Z / (2 * whole)) / (1 + Z * Z / whole)
    half = Z * math.sqrt(p * (1 - p) / whole + Z * Z / (4 * whole * whole)) / (1 + Z * Z / whole)
    return Share(part, whole, max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True, slots=True)
class Paired:
    """Two runs on the same problems."""

    both: int
    """Problems that both solved."""
    first: int
    """That only the first solved."""
    second: int
    """That only the second solved."""
    neither: int
    p: float
    """Two-sided exact McNemar test: the chance of a split at least this uneven if the runs are equally good."""
    difference: float
    """Of the shares, the first's less the second's."""
    low: float
    high: float
    """95 % interval of the difference (Agresti and Min, Statistics in Medicine 24, 2005)."""


def paired(outcomes: Sequence[tuple[bool, bool]]) -> Paired:
    """Compare verdicts (first, second) of at least one problem."""
    first = sum(a and not b for a, b in outcomes)
    second = sum(b and not a for a, b in outcomes)
    both, n = sum(a and b for a, b in outcomes), len(outcomes)
    b, c, total = first + 0.5, second + 0.5, n + 2
    middle = (b - c) / total
    half = Z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / total)) / total
    return Paired(
        both, first, second, n - both - first - second, exact(first, second), (first - second) / n,
        max(-1.0, middle - half), min(1.0, middle + half),
    )  # fmt: skip


def exact(first: int, second: int) -> float:
    """Two-sided p-value of a split of ``first + second`` fair coins (McNemar's exact test)."""
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    p: float = 2 * tail / 2**n
    return min(1.0, p)


def percentile(values: Sequence[float], part: float) -> float | None:
    """The percentile by nearest rank, with ``part`` from 0 to 1; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well values separate good thoughts from bad ones."""

    pairs: int
    """Pairs of a good and a bad thought of the same problem."""
    auc: float | None
    """Share of pairs in which the good thought has the higher value, with ties as half (area under the ROC curve).
    0.5 is chance. Averaged over problems, so that each problem has the same weight; None without pairs."""
    low: float | None
    high: float | None
    """95 % interval of that mean, from its spread over problems; None for fewer than two."""
    levels: tuple[tuple[float, int, int], ...]
    """By value, from high to low: the value, good thoughts, all thoughts."""


def ranking(problems: Sequence[Sequence[tuple[float, bool]]]) -> Ranking:
    """The ranking quality from (value, good) of the judged thoughts of each problem."""
    areas: list[float] = []
    pairs = 0
    for judged in problems:
        good = [value for value, truth in judged if truth]
        bad = [value for value, truth in judged if not truth]
        if good and bad:
            bad.sort()
            won = sum(0.5 * (bisect_left(bad, value) + bisect_right(bad, value)) for value in good)
            areas.append(won / (len(good) * len(bad)))
            pairs += len(good) * len(bad)
    mean = sum(areas) / len(areas) if areas else None
    low = high = None
    if mean is not None and len(areas) > 1:
        spread = math.sqrt(sum((area - mean) ** 2 for area in areas) / (len(areas) - 1))
        half = Z * spread / math.sqrt(len(areas))
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    counts: dict[float, list[int]] = {}
    for value, truth in (pair for judged in problems for pair in judged):
        level = counts.setdefault(value, [0, 0])
        level[0] += truth
        level[1] += 1
    levels = tuple((value, counts[value][0], counts[value][1]) for value in sorted(counts, reverse=True))
    return Ranking(pairs, mean, low, high, levels)
