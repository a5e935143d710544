"""From runs to the rows of a table: medians, speed-ups within a repeat, equality with the reference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from treeagent.comparison.speedup import speedup

from .. import equality
from ..config.plan import Plan
from ..equality import TokenDifference
from ..measure import BenchRun
from ..runners.base import Tokens

QUIET = 0.85
"""Share of a run's time that its process must have had a core of the CPU, or something else disturbed the run."""


@dataclass(frozen=True, slots=True)
class Row:
    """A mode with so many branches."""

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
    """Median over the repeats of tokens per second against the baseline's in the same repeat; None: nothing to
    compare with."""
    interval: tuple[float, float] | None
    """95 % of the speed-up (Student's, over the logarithms of the ratios); None below three repeats."""
    ratios: tuple[float, ...]
    """What ``speedup`` is the median of."""
    equal: int | None
    """Outputs that are the reference's, in the repeat with the fewest; None: not compared."""
    exact: bool
    """Whether all outputs ought to be the reference's."""
    difference: TokenDifference | None
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The backend's own, of the median run."""
    score: float | None = None
    """Mean over the outputs of their summed log-probability under the model, then over the runs; None: not asked."""
    error: str | None = None
    """Why runs are missing."""
    disturbed: int = 0
    """Runs that other work on the machine held up for a good part of their time."""

    @property
    def wrong(self) -> bool:
        """Whether tokens differ that ought to be equal."""
        return self.exact and self.difference is not None

    @property
    def accepted(self) -> float | None:
        """Share of drafted tokens that the model accepted; None when nothing is known to have been drafted."""
        drafted, accepted = self.figures.get("drafted"), self.figures.get("accepted")
        return accepted / drafted if drafted and accepted is not None else None

    @property
    def seconds_per_token(self) -> float | None:
        """Wall-clock time of the median run divided by its tokens."""
        return None if self.tokens_per_second is None else 1 / self.tokens_per_second

    def to_json(self) -> dict[str, Any]:
        """As in ``treeagent bench --json``."""
        return {**asdict(self), "figures": dict(self.figures)}


def summarize(plan: Plan, runs: Sequence[BenchRun], reference: Sequence[Tokens] | None) -> list[Row]:
    """A row for every mode and number of branches that was run, in the order of the plan."""
    return [
        _row(plan, mode.name, branches, [run for run in runs if run.branches == branches], reference)
        for branches in plan.branches
        for mode in plan.modes
        if any(run.mode is mode and run.branches == branches for run in runs)
    ]


def _row(plan: Plan, name: str, branches: int, runs: Sequence[BenchRun], reference: Sequence[Tokens] | None) -> Row:
    own = [run for run in runs if run.mode.name == name]
    mode = own[0].mode
    paces = _paces(own)
    measurements = [run.measurement for run in own if run.measurement is not None]
    middle = (
        sorted(measurements, key=lambda measurement: measurement.seconds)[(len(measurements) - 1) // 2]
        if measurements
        else None
    )
    base = _paces(run for run in runs if run.mode.name == plan.baseline)
    shared = sorted(paces.keys() & base.keys())
    ratios = [base[repeat] / paces[repeat] for repeat in shared]
    spread = speedup(ratios)
    compared = reference is not None and plan.comparable(mode) and measurements
    equal: int | None = None
    difference: TokenDifference | None = None
    if reference is not None and compared:
        equal = min(equality.equal(reference, measurement.outputs) for measurement in measurements)
        found = (equality.first_difference(reference, measurement.outputs) for measurement in measurements)
        difference = next((each for each in found if each is not None), None)
    return Row(
        mode=name,
        branches=branches,
        repeats=len(measurements),
        seconds=statistics.median(measurement.seconds for measurement in measurements) if measurements else None,
        tokens=None if middle is None else middle.tokens,
        tokens_per_second=1 / statistics.median(paces.values()) if paces else None,
        speedup=statistics.median(ratios) if ratios else None,
        interval=None if spread is None else spread.interval,
        ratios=tuple(ratios),
        equal=equal,
        exact=plan.exact(mode),
        difference=difference,
        score=_mean([measurement.score for measurement in measurements]),
        figures={} if middle is None else middle.figures,
        disturbed=sum(
            measurement.cpu_seconds < QUIET * measurement.seconds
            for measurement in measurements
            if measurement.cpu_seconds is not None
        ),
        error=next((run.error for run in own if run.error is not None), None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _paces(runs: Iterable[BenchRun]) -> dict[int, float]:
    """Seconds per token of each repeat; a run without a token has none."""
    return {
        run.repeat: run.measurement.seconds / run.measurement.tokens
        for run in runs
        if run.measurement is not None and run.measurement.tokens
    }


def per_doubling(smaller: Row, larger: Row) -> float | None:
    """Factor on the time per token for twice as many branches, from two rows of one mode."""
    if smaller.seconds_per_token is None or larger.seconds_per_token is None:
        return None
    doublings = math.log2(larger.branches / smaller.branches)
    return float((larger.seconds_per_token / smaller.seconds_per_token) ** (1 / doublings))


def _steps(rows: Sequence[Row]) -> dict[tuple[str, int], float | None]:
    """Factor on the time per token per doubling, by mode and the larger number of branches."""
    found = {}
    for mode in dict.fromkeys(row.mode for row in rows):
        for smaller, larger in pairwise(row for row in rows if row.mode == mode):
            found[mode, larger.branches] = per_doubling(smaller, larger)
    return found
