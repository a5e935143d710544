"""Predicts the seconds of the next passes: a fitted table, the contexts of recent passes, and the machine's speed.

The table is fitted once and kept. What rows read in a pass is taken from the last pass of about as many rows. How fast
the machine is at this time, perhaps because of other programs, is the median of measured over predicted seconds of
recent passes. Predictions decide what is drafted, and never what is generated.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cost_table import CostTable
from .pass_work import PassWork

RECENT = 25
"""Passes that the drift is the median of."""
FIRST = 3
"""Passes that the speed at the start counts for."""
MOST = 8.0
"""Passes of more than this ratio, or less than its inverse, count as if they had this one."""
FRESH = 8
"""Passes for which what rows of a pass read is taken to be the same."""
SLOPES = 7
"""Numbers of drafted nodes (1, 2, 4 ...) for which the cost of a node is looked up."""
USUAL = PassWork(tokens=1, spans=1, wanted=1, private=33, common=256, pairs=33, shared=256, groups=1)
"""The contexts that are assumed before the first pass."""


class RecentPasses:
    """What recent passes of a target show: the contexts of its rows, and the machine's speed."""

    def __init__(self) -> None:
        self.drift = 1.0
        """How much longer passes take now than at the start."""
        self.count = 0
        """Passes so far."""
        self._ratios = deque([1.0] * FIRST, maxlen=RECENT)
        self._works: dict[int, PassWork] = {}
        """The last pass of each magnitude of rows."""

    def add(self, work: PassWork, ratio: float) -> None:
        """A pass took ``ratio`` times as long as it would have taken at the start."""
        self._ratios.append(min(max(ratio, 1 / MOST), MOST))
        self.drift = sorted(self._ratios)[len(self._ratios) // 2]
        self._works[int(work.spans).bit_length()] = work
        self.count += 1

    def like(self, rows: float) -> PassWork:
        """The last pass with about as many rows."""
        if not self._works:
            return USUAL
        magnitude = int(rows).bit_length()
        return self._works[min(self._works, key=lambda known: (abs(known - magnitude), known))]


class PassCost:
    """Seconds of one model's passes, for a caller that knows rows and drafted nodes only."""

    def __init__(
        self,
        table: CostTable,
        speed: float = 1.0,
        recent: RecentPasses | None = None,
        padded: Callable[[int], int] = int,
    ) -> None:
        """``speed``: seconds that passes take at the start over those of the table.

        ``recent``: passes of another model, the target of which this one is the draft model.
        """
        self.table = table
        self.padded = padded
        """Tokens that a pass over so many computes, where passes have fixed sizes."""
        self._speed = speed
        self._recent = recent or RecentPasses()
        self._stale = 0  # number of the pass before which the lines are computed again
        self._lines: dict[float, tuple[float, float]] = {}
        """By rows: seconds beside those by tokens, without drafted nodes and for each of them."""
        self._slopes: dict[tuple[float, int], float] = {}
        """The table's part of the slopes that were asked for."""
        self.knots = array("d", table.tokens), array("d", table.seconds)
        """Those of the table by tokens, as kernels read them."""

    def __call__(self, rows: float, nodes: float = 0.0) -> float:
        """Seconds of a pass of ``rows`` rows, one new token each, and ``nodes`` drafted nodes among them."""
        fixed, each = self.line(rows)
        return max(self.scale * (self.table.by_tokens(rows + nodes) + fixed + each * nodes), 1e-9)

    def slope(self, rows: float, most: int) -> float:
        """Seconds of a drafted node beside ``rows`` rows: the least mean of 1, 2, 4 ... nodes up to ``most``."""
        size = min(most.bit_length(), SLOPES)
        slope = self._slopes.get((rows, size))
        if slope is None:
            plain, table = self.table.by_tokens(rows), self.table
            slope = min([(table.by_tokens(rows + (1 << power)) - plain) / (1 << power) for power in range(size)])
            self._slopes[rows, size] = slope
        return self.scale * (slope + self.line(rows)[1])

    def each(self, rows: float, nodes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The same for many numbers of nodes (n,)."""
        fixed, each = self.line(rows)
        seconds = self.table.by_each((rows + nodes).astype(np.float64)) + fixed + each * nodes
        return np.maximum(self.scale * seconds, 1e-9)

    def prompt(self, tokens: float) -> float:
        """Seconds of a pass over the tokens of a prompt, of which the last one's logits are wanted."""
        work = PassWork(tokens, 1, 1, private=tokens, pairs=tokens * tokens)
        return max(self.scale * self.table.predict(work), 1e-9)

    @property
    def scale(self) -> float:
        """Seconds that passes take now over those of the table."""
        return self._speed * self._recent.drift

    def record(self, work: PassWork, seconds: float) -> float:
        """Learn from a measured pass. Returns its seconds as they were predicted before."""
        start = self._speed * self.table.predict(work)
        predicted = start * self._recent.drift
        self._recent.add(work, seconds / start)
        return predicted

    def beside(self, target: PassCost) -> PassCost:
        """The same model as the draft model of a target: its contexts and the machine's speed are the target's."""
        return PassCost(self.table, self._speed, target._recent, self.padded)  # of the same class

    def line(self, rows: float) -> tuple[float, float]:
        """Seconds beside those by tokens and :attr:`scale`, without drafted nodes and for each of them."""
        if self._recent.count >= self._stale:
            self._stale = self._recent.count + min(FRESH, self._recent.count + 1)
            self._lines.clear()
        line = self._lines.get(rows)
        if line is None:
            like = self._recent.like(rows)
            fixed, more = (self.table.by_counts(like.counts_of(rows, nodes)) for nodes in (0, 1))
            line = self._lines[rows] = fixed, more - fixed
        return line
