"""From runs to the cells of the grid: medians, speed-ups within a repeat, equality with the reference.

Repeats on the same prompts are one sample of the engine's figures, of which the median run counts; repeats on different
prompts are several, of which mean and standard error are given.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from treeagent.comparison import speedup as speed

from .. import equality
from ..config.methods import Method
from ..config.modes import find
from ..config.plan import BenchGrid
from ..equality import TokenDifference
from ..runners.base import Measurement
from .runs import BenchRun, PlanResult

QUIET = 0.85
"""Share of a run's time that its process must have had a CPU core; below, other processes disturbed the run."""

Explain = Callable[[PlanResult, TokenDifference], TokenDifference]
"""Adds the gap to a difference."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of a figure over the sets of prompts."""

    mean: float
    error: float | None
    """Standard error of the mean; None for one set."""


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A mode in a cell. Figures of the engine are None where it did not run or drafted nothing."""

    label: str
    """The method's name; without a suite the mode's."""
    mode: str
    branches: int
    repeats: int
    """Runs that did not fail."""
    seconds: float | None
    """Median."""
    tokens: int | None
    """Generated in the median run."""
    tokens_per_second: float | None
    """Median."""
    speedup: float | None
    """Median over the repeats of tokens per second divided by the baseline's in the same repeat."""
    interval: tuple[float, float] | None
    """95 % interval of the speed-up (Student's, over the logarithms of the ratios); None below three repeats."""
    ratios: tuple[float | None, ...]
    """The ratios whose median is ``speedup``, by repeat; None where one of the two did not run."""
    equal: int | None = None
    """Outputs that are the reference's, in the worst repeat of each set of prompts; None: not compared."""
    compared: int = 0
    """Outputs that were compared."""
    exact: bool = False
    """Whether all of them must be the reference's."""
    difference: TokenDifference | None = None
    difference_repeat: int | None = None
    """Repeat of ``difference``, from 0."""
    block_efficiency: Estimate | None = None
    """Tokens that a branch gains per target pass."""
    accepted: float | None = None
    """Share of all drafted tokens that the model accepted."""
    mbsu: float | None = None
    """Mean memory-bound speed-up."""
    overhead: float | None = None
    """Mean share of the time outside passes."""
    kv_peak_bytes: int | None = None
    """The largest."""
    peak_bytes: int | None = None
    """The most resident memory of the process during a run."""
    load_peak_bytes: int | None = None
    """The most until the model was loaded; None where modes share a process."""
    score: Estimate | None = None
    """Summed natural-log probability of an output under the model; None: no mode has beams."""
    beams: bool = False
    """Whether an output is the best of several beams, which is more work than a sample."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """All figures of the backend, of the median run."""
    per_doubling: float | None = None
    """Factor on the time per token for twice as many branches, from the cell with the next lower number."""
    error: str | None = None
    """Why runs are missing."""
    disturbed: int = 0
    """Runs during which other processes used the machine."""

    @property
    def wrong(self) -> bool:
        """Whether tokens differ that must be equal."""
        return self.exact and self.difference is not None

    @property
    def seconds_per_token(self) -> float | None:
        """Wall-clock time per token."""
        return None if self.tokens_per_second is None else 1 / self.tokens_per_second


@dataclass(frozen=True, slots=True)
class GridCell:
    """A workload at a temperature with a number of branches, and a row for each mode that was run."""

    workload: str
    temperature: float
    branches: int
    results: tuple[PlanResult, ...]
    """Of the plans that this cell is part of."""
    rows: tuple[BenchRow, ...]


def summarise(grid: BenchGrid, results: Sequence[PlanResult], explain: Explain | None = None) -> list[GridCell]:
    """The cells in the order of the grid; cells without any run or failure have no rows."""
    cells = []
    by_cell = groupby(results, key=lambda result: (result.plan.workload, result.plan.sampling.temperature))
    for (workload, temperature), group in by_cell:
        own = tuple(group)
        smaller: dict[str, BenchRow] = {}
        for branches in grid.branches:
            rows = [
                _row(grid, method, branches, own, smaller.get(method.name), explain)
                for method in grid.methods
                if any(result.failure is not None or _runs(result, method.name, branches) for result in own)
            ]
            cells.append(GridCell(workload, temperature, branches, own, tuple(rows)))
            smaller = {row.mode: row for row in rows}
    return cells


def _row(
    grid: BenchGrid,
    method: Method,
    branches: int,
    results: Sequence[PlanResult],
    smaller: BenchRow | None,
    explain: Explain | None,
) -> BenchRow:
    mode = find(method.name)
    runs = [run for result in results for run in _runs(result, mode.name, branches)]
    done = [run.measurement for run in runs if run.measurement is not None]
    errors = [error for error in [*(run.error for run in runs), *(result.failure for result in results)] if error]
    speeds = _Speeds.of(
        runs, [run for result in results for run in _runs(result, grid.baseline, branches)], grid.repeat
    )
    by_prompts = [each for result in results if (each := _done(result, mode.name, branches))]
    medians = [_median(each) for each in by_prompts]
    middle = _median(done) if done else None
    drafted = sum(_values(medians, "drafted"))
    efficiency, mbsu, overhead = (_values(medians, name) for name in ("block_efficiency", "mbsu", "overhead"))
    equal, compared = _equality(results, mode.name, branches)
    difference, repeat = _difference(results, mode.name, branches, explain)
    scores = [[run.score for run in each if run.score is not None] for each in by_prompts]
    return BenchRow(
        label=method.label,
        mode=mode.name,
        branches=branches,
        repeats=len(done),
        seconds=statistics.median(run.seconds for run in done) if done else None,
        tokens=None if middle is None else middle.tokens,
        tokens_per_second=None if speeds.pace is None else 1 / speeds.pace,
        speedup=speeds.speedup,
        interval=speeds.interval,
        ratios=speeds.ratios,
        equal=equal,
        compared=compared,
        exact=any(result.plan.exact(mode) for result in results),
        difference=difference,
        difference_repeat=repeat,
        block_efficiency=estimate(efficiency),
        accepted=sum(_values(medians, "accepted")) / drafted if drafted else None,
        mbsu=statistics.fmean(mbsu) if mbsu else None,
        overhead=statistics.fmean(overhead) if overhead else None,
        kv_peak_bytes=max(map(int, _values(medians, "kv_peak_bytes")), default=None),
        peak_bytes=max((run.peak_bytes for run in done if run.peak_bytes is not None), default=None),
        load_peak_bytes=max((run.load_peak_bytes for run in done if run.load_peak_bytes is not None), default=None),
        score=estimate([statistics.fmean(each) for each in scores if each]),
        beams=mode.num_beams > 1,
        figures={} if middle is None else middle.figures,
        per_doubling=None if smaller is None else _per_doubling(smaller, speeds.pace, branches),
        error=next(iter(errors), None),
        disturbed=sum(run.cpu_seconds is not None and run.cpu_seconds < QUIET * run.seconds for run in done),
    )


@dataclass(frozen=True, slots=True)
class _Speeds:
    """The speed of a row, and its ratio to the baseline's."""

    pace: float | None
    """Median of the seconds per token."""
    speedup: float | None
    interval: tuple[float, float] | None
    ratios: tuple[float | None, ...]

    @classmethod
    def of(cls, runs: Sequence[BenchRun], base: Sequence[BenchRun], repeats: int) -> _Speeds:
        """From the runs of the mode and those of the baseline."""
        paces, base_paces = _paces(runs), _paces(base)
        ratios = tuple(
            base_paces[repeat] / paces[repeat] if repeat in paces and repeat in base_paces else None
            for repeat in range(repeats)
        )
        known = [ratio for ratio in ratios if ratio is not None]
        spread = speed.speedup(known)
        return cls(
            statistics.median(paces.values()) if paces else None,
            statistics.median(known) if known else None,
            None if spread is None else spread.interval,
            ratios,
        )


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and standard error; None without values."""
    if not values:
        return None
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error)


def _runs(result: PlanResult, mode: str, branches: int) -> list[BenchRun]:
    return [run for run in result.runs if run.mode.name == mode and run.branches == branches]


def _done(result: PlanResult, mode: str, branches: int) -> list[Measurement]:
    return [run.measurement for run in _runs(result, mode, branches) if run.measurement is not None]


def _median(runs: Sequence[Measurement]) -> Measurement:
    """The run of median time; of two, the faster."""
    return sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]


def _values(runs: Sequence[Measurement], figure: str) -> list[float]:
    return [run.figures[figure] for run in runs if run.figures.get(figure) is not None]


def _paces(runs: Iterable[BenchRun]) -> dict[int, float]:
    """Seconds per token of each repeat; a run without a token has none."""
    return {
        run.repeat: run.measurement.seconds / run.measurement.tokens
        for run in runs
        if run.measurement is not None and run.measurement.tokens
    }


def _equality(results: Sequence[PlanResult], mode: str, branches: int) -> tuple[int | None, int]:
    """How many outputs equal the reference's, and how many were compared."""
    counts = [
        min(equality.equal(result.reference, run.outputs) for run in done)
        for result in results
        if result.reference is not None
        and result.plan.comparable(find(mode))
        and (done := _done(result, mode, branches))
    ]
    return (sum(counts), branches * len(counts)) if counts else (None, 0)


def _difference(
    results: Sequence[PlanResult], mode: str, branches: int, explain: Explain | None
) -> tuple[TokenDifference | None, int | None]:
    """The first difference from the reference, explained, and its repeat."""
    for result in results:
        if result.reference is None or not result.plan.comparable(find(mode)):
            continue
        for run in _runs(result, mode, branches):
            if run.measurement is not None:
                difference = equality.first_difference(result.reference, run.measurement.outputs)
                if difference is not None:
                    return (difference if explain is None else explain(result, difference)), run.repeat
    return None, None


def _per_doubling(smaller: BenchRow, pace: float | None, branches: int) -> float | None:
    if smaller.seconds_per_token is None or pace is None:
        return None
    return float((pace / smaller.seconds_per_token) ** (1 / math.log2(branches / smaller.branches)))
