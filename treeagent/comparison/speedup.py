"""Work, time and speed-up of each backend of a comparison, from repeats in which all backends did the same work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from ..runtime.result import Counts, Result
from ..sums import total

ENOUGH = 3
"""Fewest repeats that give an interval: two say almost nothing about the spread."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a backend over all inputs."""

    inputs: int = 0
    solved: int | None = 0
    """Inputs solved, of those with a verdict; None when no input has one."""
    tokens: int | None = 0
    completion_tokens: int | None = 0
    seconds: float = 0.0
    engine: dict[str, Any] = field(default_factory=dict)
    """The metrics that the backend reports."""
    graded: int = 0
    """Inputs with a verdict of their gold answer or of the task."""
    counts: Counts = field(default_factory=Counts)
    """Sums over the inputs."""

    @classmethod
    def of(cls, results: Sequence[Result], verdicts: Sequence[bool | None], engine: dict[str, Any]) -> Pass:
        """From the result of each input and the verdict on its answer."""
        known = [verdict for verdict in verdicts if verdict is not None]
        return cls(
            len(results),
            sum(known) if known else None,
            total(*(result.usage.tokens for result in results)),
            total(*(result.usage.completion_tokens for result in results)),
            sum(result.seconds for result in results),
            engine,
            len(known),
            Counts(*(sum(column) for column in zip(*(astuple(result.counts) for result in results), strict=True))),
        )


@dataclass(frozen=True, slots=True)
class Speedup:
    """Speed as a multiple of a reference's."""

    ratio: float
    """Geometric mean over the repeats."""
    interval: tuple[float, float] | None
    """95 % interval, for these inputs on this machine; None with fewer than three repeats."""


@dataclass(frozen=True, slots=True)
class Score:
    """All passes of one backend, which grew the same tree in each."""

    backend: str
    passes: tuple[Pass, ...]

    @property
    def seconds(self) -> float:
        """Of the median repeat."""
        return statistics.median(one_pass.seconds for one_pass in self.passes)

    @property
    def speed(self) -> float | None:
        """Completion tokens per second; None when unknown."""
        tokens, seconds = self.passes[0].completion_tokens, self.seconds
        return tokens / seconds if tokens is not None and seconds > 0 else None

    @property
    def engine(self) -> dict[str, Any]:
        """The backend's metrics in the median repeat, the faster of two."""
        return sorted(self.passes, key=lambda one_pass: one_pass.seconds)[(len(self.passes) - 1) // 2].engine

    def ratios(self, reference: Score) -> list[float]:
        """The speed-up in each repeat; empty when the clock is too coarse."""
        pairs = [(a.seconds, b.seconds) for a, b in zip(reference.passes, self.passes, strict=True)]
        return [a / b for a, b in pairs] if all(a > 0 and b > 0 for a, b in pairs) else []

    def speedup(self, reference: Score) -> Speedup | None:
        """Over the reference, paired by repeat, so that slow minutes of the machine cancel. None when unknown."""
        return speedup(self.ratios(reference))

    def to_json(self, reference: Score | None) -> dict[str, Any]:
        """Part of the object that ``treeagent compare --json`` prints; None stands for the reference itself."""
        speedup = None if reference is None else self.speedup(reference)
        first = {key: value for key, value in asdict(self.passes[0]).items() if key not in ("seconds", "engine")}
        return {
            "backend": self.backend,
            **first,
            "seconds": round(self.seconds, 4),
            "completion_tokens_per_second": None if self.speed is None else round(self.speed, 1),
            "speedup": None if speedup is None else asdict(speedup),
            "engine": self.engine,
            "runs": [{"seconds": round(run.seconds, 4), "engine": run.engine} for run in self.passes],
        }


def speedup(ratios: Sequence[float]) -> Speedup | None:
    """Geometric mean of the ratios with Student's interval over their logarithms.

    Returns None for a single repeat: the first run of a process pays for work that later runs find done.
    """
    if len(ratios) < 2:
        return None
    logs = [math.log(ratio) for ratio in ratios]
    middle = statistics.fmean(logs)
    if len(logs) < ENOUGH:
        return Speedup(math.exp(middle), None)
    half = _student(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Speedup(math.exp(middle), (math.exp(middle - half), math.exp(middle + half)))


def _student(freedom: int) -> float:
    """97.5 % quantile of Student's t; between two rows of the table the larger value, which widens the interval."""
    return _QUANTILES[max(row for row in _QUANTILES if row <= freedom)]


_QUANTILES = {
    2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 15: 2.131,
    20: 2.086, 30: 2.042, 60: 2.0, 120: 1.98,
}  # fmt: skip
