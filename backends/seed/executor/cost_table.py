"""Seconds of a pass by its number of tokens, from measured passes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of rows that are measured."""


DRAFTED = (0, 1, 3, 7, 15)
"""Drafted nodes per row that are measured with each, up to ``LARGEST`` tokens in all."""


LARGEST = 128


REPEATS = 3


ENOUGH = 5.0
"""Seconds after which no more rows are measured: on a slow machine the rest follows from the last two."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one target pass by its rows and the drafted nodes among them; linear between what was measured."""

    rows: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]
    """For each number of rows, the seconds with each of the first of ``DRAFTED``; never falling either way."""

    @classmethod
    def measure(cls, run: Callable[[int, int], float]) -> CostTable:
        """``run(rows, drafted)`` makes a pass with so many nodes per row, and returns its seconds."""
        measured: list[list[float]] = []
        spent = 0.0
        run(1, 0)  # the first pass of a process is slow
        for rows in ROWS:
            line: list[float] = []
            for drafted in DRAFTED:
                if drafted > 1 and rows * (1 + drafted) > LARGEST:
                    break
                times = [run(rows, drafted) for _ in range(REPEATS)]
                spent += sum(times)
                line.append(min(times))  # the least is what the machine can do when nobody disturbs it
            measured.append(line)
            if spent > ENOUGH and len(measured) > 1:
                break
        seconds: list[tuple[float, ...]] = []
        for line in reversed(measured):  # whoever disturbs makes passes longer: a larger one that was shorter is right
            above = seconds[-1] if seconds else ()
            for place in reversed(range(len(line))):
                line[place] = min([line[place], *line[place + 1 : place + 2], *above[place : place + 1]])
            seconds.append(tuple(line))
        seconds.reverse()
        return cls(ROWS[: len(seconds)], tuple(seconds))

    def __call__(self, rows: float, nodes: float = 0.0) -> float:
        """Seconds of a pass of ``rows`` rows, one new token each, and ``nodes`` drafted nodes among them."""
        per_row = nodes / max(rows, 1.0)
        by_rows = [_between(DRAFTED[: len(line)], line, per_row) for line in self.seconds]
        return max(_between(self.rows, by_rows, rows), 1e-9)


def _between(at: Sequence[float], values: Sequence[float], x: float) -> float:
    """Linear interpolation, going on as it began and ended; ``at`` ascends."""
    if len(at) == 1:
        return values[0]
    i = min(max(bisect_right(at, x), 1), len(at) - 1)
    return values[i - 1] + (values[i] - values[i - 1]) * (x - at[i - 1]) / (at[i] - at[i - 1])
