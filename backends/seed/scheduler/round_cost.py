"""Seconds of a round: those of its pass by the cost table, and of all else by what recent rounds took.

What is outside of the pass (to decide on drafts, to verify, to commit and to hand out text) grows with the rows. Beside
a small model it takes as long as the pass, and so it decides whether rows that are sent early pay.
"""

from __future__ import annotations

from ..executor.pass_cost import PassCost

ROUND, ROW = 0.0005, 0.0005
"""Seconds outside of the pass that are assumed at first, of a round and of each of its rows."""
ASSUMED = (1.0, 4.0)
"""Rows of the two rounds that stand for the assumption; each counts as ``WEIGHT`` measured ones."""
WEIGHT = 8.0
MEMORY = 0.99
"""What a measured round counts after each later one."""
LEVEL = 4.0
"""The most that a round counts for, over what was expected: the machine may have done something else meanwhile."""
FEWEST = 3
"""Early rows; for fewer of them the search is not asked for hints."""
SLIGHTLY = 0.5
"""The part of a round's time that early rows may add where nobody has asked for them, as :mod:`.early_jobs` lets."""


class RoundCost:
    """Learns what rounds take outside of their passes: a straight line through the recent ones, by rows."""

    def __init__(self, cost: PassCost) -> None:
        self.passes = cost
        self._sums = [0.0] * 5  # of 1, rows, rows^2, seconds and rows * seconds
        for rows in ASSUMED:
            self._add(rows, ROUND + ROW * rows, WEIGHT)

    def record(self, rows: int, seconds: float) -> None:
        """A round of so many rows took ``seconds`` outside of its pass."""
        self._sums = [MEMORY * value for value in self._sums]
        self._add(rows, min(seconds, LEVEL * self.outside(rows)), 1.0)

    def _add(self, rows: float, seconds: float, weight: float) -> None:
        terms = (1.0, rows, rows * rows, seconds, rows * seconds)
        self._sums = [value + weight * term for value, term in zip(self._sums, terms, strict=True)]

    def _line(self) -> tuple[float, float]:
        count, rows, squares, seconds, products = self._sums
        spread = count * squares - rows * rows
        if spread > 1e-3 * count * count:
            each = (count * products - rows * seconds) / spread
        else:
            each = ROW / (ROUND + ROW) * seconds / count  # all had about as many rows: as at first
        each = min(max(each, 0.0), seconds / max(rows, 1.0))
        return (seconds - each * rows) / count, each

    def outside(self, rows: float) -> float:
        """Seconds outside of the pass."""
        fixed, each = self._line()
        return fixed + each * rows

    def __call__(self, rows: float, nodes: float = 0.0) -> float:
        """Seconds of a round of ``rows`` rows, one new token each, and ``nodes`` drafted nodes or prompt tokens."""
        return self.passes(rows, nodes) + self.outside(rows)

    def calm(self, rows: float) -> float:
        """Seconds of a pass where nothing else slows it down: other programs are no reason to add rows."""
        return self.passes(rows) / max(1.0, self.passes.scale)

    def slight(self, most: int) -> int:
        """How many early rows, up to ``most``, lengthen a round of one row only slightly; none rather than a few."""
        each = max(ROW, self._line()[1], self.outside(1) * ROW / (ROUND + ROW))  # rounds of one size tell too little
        one = self.calm(1) + self.outside(1)

        def added(rows: int) -> float:
            return self.calm(1 + rows) - self.calm(1) + each * rows

        slight = (rows for rows in range(most, FEWEST - 1, -1) if added(rows) <= SLIGHTLY * one)
        return next(slight, 0)
