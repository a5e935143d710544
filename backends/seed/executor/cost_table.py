"""Seconds of a pass by what it computes, fitted to measured passes.

A pass takes the time of its tokens in the linear layers, which is a table, as matrix products are fastest at certain
sizes, and a rate for each of the other counts of :class:`.pass_work.PassWork`. All of them are measured: how keys are
read and what is padded differs between models, machines and attention kernels.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul

import numpy as np
from numpy.typing import NDArray

from .pass_work import RATES, PassWork

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of tokens of the table."""

RIDGE = 1e-4
"""Weight of the preference for small rates, where the measured passes do not tell two of them apart."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one pass: linear between the tokens of the table, going on beyond as at its end."""

    tokens: tuple[float, ...]
    """Ascending."""
    seconds: tuple[float, ...]
    """For each of ``tokens`` the seconds of a pass without the counts of ``rates``; never falling."""
    rates: tuple[float, ...] = (0.0,) * len(RATES)
    """Seconds for one of each of ``RATES``; none is negative."""

    @classmethod
    def fit(cls, passes: Sequence[tuple[PassWork, float]]) -> CostTable:
        """The table that is closest to measured passes (work, seconds), by relative error.

        No more work ever takes less time. A pass that was disturbed counts little, as it took longer.
        """
        largest = max(work.tokens for work, _ in passes)
        tokens = tuple(count for count in TOKENS if count <= largest) or TOKENS[:1]
        system = np.array([[*_ramps(tokens, work.tokens), *work.counts] for work, _ in passes])
        system /= np.array([seconds for _, seconds in passes])[:, None]
        solved = least_squares(system, np.ones(len(passes)))
        steps, rates = solved[: len(tokens)], solved[len(tokens) :]
        return cls(tokens, tuple(np.cumsum(steps).tolist()), tuple(rates.tolist()))

    def predict(self, work: PassWork) -> float:
        """Seconds of a pass; always positive."""
        return max(self.by_tokens(work.tokens) + self.by_counts(work.counts), 1e-9)

    def by_counts(self, counts: Sequence[float]) -> float:
        """The rates' part of a pass, see :attr:`PassWork.counts`."""
        total: float = sum(map(mul, self.rates, counts))
        return total

    def by_tokens(self, tokens: float) -> float:
        """The table's part of a pass."""
        at, values = self.tokens, self.seconds
        if len(at) == 1:
            return values[0]
        i = min(max(bisect_right(at, tokens), 1), len(at) - 1)
        return values[i - 1] + (values[i] - values[i - 1]) * max(0.0, tokens - at[i - 1]) / (at[i] - at[i - 1])

    def by_each(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """The table's part of passes of so many tokens each (n,)."""
        seconds: NDArray[np.float64] = np.interp(tokens, self.tokens, self.seconds)
        if len(self.tokens) > 1:
            slope = (self.seconds[-1] - self.seconds[-2]) / (self.tokens[-1] - self.tokens[-2])
            seconds += slope * np.maximum(0.0, tokens - self.tokens[-1])
        return seconds

    @property
    def valid(self) -> bool:
        """Whether it is a table at all; one that was stored may be damaged."""
        return (
            0 < len(self.tokens) == len(self.seconds)
            and len(self.rates) == len(RATES)
            and all(math.isfinite(value) for value in (*self.tokens, *self.seconds, *self.rates))
            and all(low < high for low, high in pairwise(self.tokens))
            and all(low <= high for low, high in pairwise(self.seconds))
            and min(self.tokens) > 0
            and min(*self.seconds, *self.rates) >= 0
        )


def least_squares(system: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 of least ``|system x - wanted|`` (Lawson and Hanson, Solving Least Squares Problems, chapter 23)."""
    size = np.linalg.norm(system, axis=0)
    size[size == 0] = 1.0
    n = len(size)
    a = np.vstack((system / size, RIDGE * np.eye(n)))
    b = np.concatenate((wanted, np.zeros(n)))
    x, free = np.zeros(n), np.zeros(n, dtype=np.bool_)
    for _ in range(4 * n):
        gradient = np.where(free, -np.inf, a.T @ (b - a @ x))
        if free.all() or gradient.max() <= 1e-9:
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(n)
            trial[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            below = free & (trial <= 0)
            if not below.any():
                break
            part = (x[below] / np.maximum(x[below] - trial[below], 1e-300)).min()
            x = x + part * (trial - x)
            free &= x > 1e-12
            x[~free] = 0.0
        x = trial
    solved: NDArray[np.float64] = x / size
    return solved


def _ramps(knots: Sequence[float], tokens: float) -> list[float]:
    """How much of the first knot's seconds, and of every step from one knot to the next, a pass takes."""
    shares = [1.0]
    for place, (low, high) in enumerate(pairwise(knots)):
        share = max(0.0, (tokens - low) / (high - low))
        shares.append(share if place == len(knots) - 2 else min(1.0, share))
    return shares
