"""From the repeats of a cell to the lines of its table, one a method: what was measured, and how surely."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from treeagent.comparison.speedup import speedup

from .config.methods import OWN, Method
from .equality import TokenDifference
from .measure import Bench
from .results.rows import Row, summarize

NEAR = 0.95
"""Share of the best configuration's speed that ``auto`` must have."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of one figure over the repeats, whose prompts and noise differ."""

    mean: float
    error: float | None
    """Standard error of the mean; None for one repeat."""


@dataclass(frozen=True, slots=True)
class Line:
    """A method in a cell. Figures that the engine alone tells are None where it drafted nothing or did not run."""

    label: str
    mode: str
    repeats: int
    """Runs that did not fail."""
    tokens_per_second: float | None
    """Median."""
    speedup: float | None
    """Median over the repeats of tokens per second against the baseline's in the same repeat."""
    interval: tuple[float, float] | None
    """95 % of the speed-up (Student's, over the logarithms of the ratios); None below three repeats."""
    ratios: tuple[float | None, ...]
    """What ``speedup`` is the median of, by repeat; None where one of the two did not run."""
    block_efficiency: Estimate | None
    """Tokens that a branch gets from a pass."""
    accepted: float | None
    """Share of all drafted tokens that the model accepted."""
    mbsu: float | None
    """Mean memory-bound speed-up."""
    kv_peak_bytes: int | None
    """The largest."""
    equal: int | None
    """Outputs of all repeats that are the reference's; None: not compared."""
    compared: int
    """Outputs that were."""
    exact: bool
    """Whether all of them ought to be the reference's."""
    difference: TokenDifference | None
    """The first, and the repeat (from 0) that it is in."""
    difference_repeat: int | None
    error: str | None
    """Why runs are missing."""
    disturbed: int
    """Runs that other work on the machine held up."""
    beams: bool = False
    """Whether an output is the best of several beams, which is other work than a sample's."""
    score: Estimate | None = None
    """Summed log-probability of an output under the model; None where no method of the cell has beams."""

    @property
    def wrong(self) -> bool:
        """Whether tokens differ that ought to be equal."""
        return self.exact and self.difference is not None

    def to_json(self) -> dict[str, Any]:
        """As in ``treeagent bench --suite papers --json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AutoComparison:
    """How the engine as it comes compares with the best that could have been configured."""

    best: str
    """Label of the fastest other method, by its speed-up."""
    ratio: float
    """Median over the repeats of the engine's speed against that method's."""
    interval: tuple[float, float] | None
    """95 % of the ratio; None below three repeats."""

    @property
    def near(self) -> bool:
        """Whether the engine is within 5 %, or cannot be told from the other method."""
        return self.ratio >= NEAR or (self.interval is not None and self.interval[1] >= 1)

    @property
    def said(self) -> str:
        """The same in words."""
        if self.ratio >= NEAR:
            return "as fast" if self.ratio >= 1 else "within 5 %"
        return "the interval reaches 1" if self.near else "more than 5 % slower"


def lines(
    benches: Sequence[Bench], methods: Sequence[Method], failures: dict[int, str], *, explain: bool = False
) -> list[Line]:
    """A line for every method that was run in a cell, or could not be; ``failures`` says why a repeat has no runs.

    ``explain`` looks up how close a call each difference was, for which the model is loaded once more.
    """
    tables = [summarize(bench.plan, bench.runs, bench.reference) for bench in benches]
    found = []
    for method in methods:
        rows = [next((row for row in table if row.mode == method.name), None) for table in tables]
        if any(rows) or failures:
            found.append(_line(method, rows, benches, failures, explain=explain))
    return found


def _line(
    method: Method, rows: Sequence[Row | None], benches: Sequence[Bench], failures: dict[int, str], *, explain: bool
) -> Line:
    done = [row for row in rows if row is not None and row.repeats]
    paces = [row.seconds_per_token for row in done if row.seconds_per_token is not None]
    ratios = tuple(row.ratios[0] if row is not None and row.ratios else None for row in rows)
    known = [ratio for ratio in ratios if ratio is not None]
    spread = speedup(known)
    compared = [row for row in done if row.equal is not None]
    differing = next((place for place, row in enumerate(rows) if row is not None and row.difference), None)
    difference = None
    if differing is not None and (first := rows[differing]) is not None and first.difference is not None:
        difference = benches[differing].explained(first.difference) if explain else first.difference
    errors = [row.error for row in rows if row is not None and row.error is not None]
    drafted = sum(row.figures.get("drafted") or 0 for row in done)
    mbsu = _values(done, "mbsu")
    return Line(
        label=method.label,
        mode=method.name,
        repeats=len(done),
        tokens_per_second=1 / statistics.median(paces) if paces else None,
        speedup=statistics.median(known) if known else None,
        interval=None if spread is None else spread.interval,
        ratios=ratios,
        block_efficiency=estimate(_values(done, "block_efficiency")),
        accepted=sum(row.figures.get("accepted") or 0 for row in done) / drafted if drafted else None,
        mbsu=statistics.fmean(mbsu) if mbsu else None,
        kv_peak_bytes=max(map(int, _values(done, "kv_peak_bytes")), default=None),
        equal=sum(row.equal or 0 for row in compared) if compared else None,
        compared=sum(row.branches for row in compared),
        exact=any(row.exact for row in compared),
        difference=difference,
        difference_repeat=differing,
        error=next(iter([*errors, *failures.values()]), None),
        disturbed=sum(row.disturbed for row in done),
        beams=method.num_beams is not None,
        score=estimate([row.score for row in done if row.score is not None]),
    )


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and standard error; None without values."""
    if not values:
        return None
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error)


def verdict(found: Sequence[Line]) -> AutoComparison | None:
    """The engine as it comes against the fastest of the others; None where one of them is missing."""
    own = next((line for line in found if line.mode == OWN), None)
    others = [line for line in found if line.mode != OWN and line.speedup is not None and not line.beams]
    if own is None or not others:
        return None
    best = max(others, key=lambda line: line.speedup or 0)
    pairs = zip(own.ratios, best.ratios, strict=True)
    ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    if not ratios:
        return None
    spread = speedup(ratios)
    return AutoComparison(best.label, statistics.median(ratios), None if spread is None else spread.interval)


def _values(rows: Sequence[Row], figure: str) -> list[float]:
    return [row.figures[figure] for row in rows if row.figures.get(figure) is not None]
