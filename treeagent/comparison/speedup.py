"""What each backend of a comparison did and how fast, from repeats in which all of them did the same work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..runtime.result import Result
from ..sums import total

ENOUGH = 3
"""Repeats below which no interval is given: two say next to nothing about their spread."""


@dataclass(slots=True)
class Pass:
    """What a backend did with all inputs, once."""

    inputs: int = 0
    solved: int | None = 0
    """None when neither the task nor gold answers can tell."""
    tokens: int | None = 0
    completion_tokens: int | None = 0
    seconds: float = 0.0
    engine: dict[str, Any] = field(default_factory=dict)
    """The backend's own figures."""

    def add(self, result: Result, right: bool | None) -> None:
        """One more input; ``right`` is the verdict on its answer."""
        self.inputs += 1
        self.solved = total(self.solved, right)
        self.tokens = total(self.tokens, result.usage.tokens)
        self.completion_tokens = total(self.completion_tokens, result.usage.completion_tokens)
        self.seconds += result.seconds


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast as a reference."""

    ratio: float
    """Geometric mean over the repeats."""
    interval: tuple[float, float] | None
    """95 %, for these inputs on this machine; None with fewer than three repeats."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one backend did in all repeats, the same tree each time."""

    backend: str
    passes: tuple[Pass, ...]

    @property
    def seconds(self) -> float:
        """The median repeat's."""
        return statistics.median(each.seconds for each in self.passes)

    @property
    def speed(self) -> float | None:
        """Completion tokens per second; None when unknown."""
        tokens, seconds = self.passes[0].completion_tokens, self.seconds
        return tokens / seconds if tokens is not None and seconds > 0 else None

    @property
    def engine(self) -> dict[str, Any]:
        """The backend's own figures in the median repeat, the faster of two."""
        return sorted(self.passes, key=lambda each: each.seconds)[(len(self.passes) - 1) // 2].engine

    def ratios(self, reference: Score) -> list[float]:
        """How many times as fast in each repeat; empty when a clock was too coarse to tell."""
        pairs = [(a.seconds, b.seconds) for a, b in zip(reference.passes, self.passes, strict=True)]
        return [a / b for a, b in pairs] if all(a > 0 and b > 0 for a, b in pairs) else []

    def speedup(self, reference: Score) -> Speedup | None:
        """Against the reference, repeat by repeat: a machine's slow minutes strike both. None when unknown."""
        return speedup(self.ratios(reference))

    def to_json(self, reference: Score | None) -> dict[str, Any]:
        """Part of the object that ``treeagent compare --json`` prints; None: there is nothing to be faster than."""
        found = None if reference is None else self.speedup(reference)
        first = {key: value for key, value in asdict(self.passes[0]).items() if key not in ("seconds", "engine")}
        return {
            "backend": self.backend,
            **first,
            "seconds": round(self.seconds, 4),
            "completion_tokens_per_second": None if self.speed is None else round(self.speed, 1),
            "speedup": None if found is None else asdict(found),
            "engine": self.engine,
            "runs": [{"seconds": round(each.seconds, 4), "engine": each.engine} for each in self.passes],
        }


def speedup(ratios: Sequence[float]) -> Speedup | None:
    """The geometric mean and Student's interval over the logarithms: twice and half as fast are equally far from 1.

    None for one repeat: it is the first run of its process, which pays for what the runs after it find done.
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
    """97.5 % quantile of Student's t; between two rows of the table the larger, which widens an interval."""
    return _QUANTILES[max(row for row in _QUANTILES if row <= freedom)]


_QUANTILES = {
    2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 15: 2.131,
    20: 2.086, 30: 2.042, 60: 2.0, 120: 1.98,
}  # fmt: skip
