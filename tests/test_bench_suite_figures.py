"""The arithmetic of ``treeagent bench --suite papers``: estimates, ratios, failures and the verdict on ``auto``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from treeagent.backends.bench.config.methods import BASELINE, OWN, Method
from treeagent.backends.bench.config.plan import BenchGrid, BenchOptions, BenchSettings, make_grid
from treeagent.backends.bench.equality import TokenDifference
from treeagent.backends.bench.results import report
from treeagent.backends.bench.results.plot import draw
from treeagent.backends.bench.results.rows import BenchRow, Estimate, GridCell, estimate, summarise
from treeagent.backends.bench.results.runs import BenchRun, PlanResult
from treeagent.backends.bench.results.verdict import AutoVerdict, auto_verdict
from treeagent.backends.bench.runners.base import Measurement
from treeagent.request import Sampling

REFERENCE = ((1, 2), (3, 4))
THREE = (Method("AR", BASELINE, ""), Method("tables", "seed-ngram", ""), Method("auto", OWN, ""))


def made(repeats: int = 1) -> BenchGrid:
    """A grid of three methods in one cell."""
    settings = BenchSettings(model="mini", device="cpu")
    labels = ("n-gram tables", "auto")
    options = BenchOptions(
        settings=settings, workloads=("mini",), temperatures=(0.0,), branches=(2,), sampling=Sampling(max_tokens=8),
        suite="papers", methods=labels, repeat=repeats,
    )  # fmt: skip
    return replace(make_grid(options), methods=THREE)


def result(
    grid: BenchGrid,
    repeat: int,
    *seconds: float | None,
    figures: dict[str, Any] | None = None,
    reference: tuple[tuple[int, ...], ...] = REFERENCE,
    failure: str | None = None,
) -> PlanResult:
    """A repeat in which the methods took so long; None failed."""
    runs = [
        BenchRun(mode, 2, repeat, None, "no memory")
        if took is None
        else BenchRun(mode, 2, repeat, Measurement(REFERENCE, took, figures or {}))
        for mode, took in zip(grid.modes, seconds, strict=False)
    ]
    return PlanResult(grid.plans[repeat], tuple(runs), reference, failure)


def rows_of(grid: BenchGrid, *results: PlanResult) -> tuple[BenchRow, ...]:
    """The rows of the one cell."""
    [cell] = summarise(grid, results)
    return cell.rows


def test_an_estimate_is_a_mean_with_its_standard_error() -> None:
    """The standard deviation over the root of how many there are."""
    found = estimate([1.0, 2.0, 3.0, 6.0])
    assert found is not None
    assert found.mean == 3.0
    assert found.error == pytest.approx((14 / 3) ** 0.5 / 2)
    assert estimate([2.5]) == Estimate(2.5, None)
    assert estimate([]) is None


def test_repeats_on_different_prompts_become_one_row() -> None:
    """Speed-ups are medians of ratios within a repeat, with Student's interval; drafted tokens are added up."""
    figures = [
        {"block_efficiency": efficiency, "drafted": drafted, "accepted": 10, "mbsu": 1.5, "kv_peak_bytes": peak}
        for efficiency, drafted, peak in ((1.0, 10, 7), (2.0, 20, 9), (3.0, 30, 8))
    ]
    grid = made(repeats=3)
    results = [result(grid, i, 4.0 * scale, 2.0, 4.0, figures=figures[i]) for i, scale in enumerate((1, 2, 1.5))]
    base, tables, own = rows_of(grid, *results)
    assert (base.speedup, base.ratios) == (1.0, (1.0, 1.0, 1.0))
    assert (tables.speedup, tables.ratios, tables.tokens_per_second) == (3.0, (2.0, 4.0, 3.0), 2.0)
    assert tables.interval is not None
    assert tables.interval[0] < 3 < tables.interval[1]
    assert tables.block_efficiency == Estimate(2.0, 1 / 3**0.5)
    assert (tables.accepted, tables.mbsu, tables.kv_peak_bytes) == (0.5, 1.5, 9)
    assert (tables.equal, tables.compared, tables.exact, tables.repeats) == (6, 6, True, 3)
    assert own.speedup == 1.5
    assert rows_of(grid, *results[:2])[1].interval is None


def test_a_difference_names_its_repeat() -> None:
    """One wrong token in the second repeat; the table says how many are equal and that they must be."""
    grid = made(repeats=2)
    results = [result(grid, 0, 1.0, 1.0, 1.0), result(grid, 1, 1.0, 1.0, 1.0, reference=((1, 2), (3, 9)))]
    [cell] = summarise(grid, results)
    row = cell.rows[1]
    assert (row.equal, row.compared, row.wrong) == (3, 4, True)
    assert (row.difference, row.difference_repeat) == (TokenDifference(1, 1, 9, 4), 1)
    remarks = report.remarks(grid, [cell], cpu=False)
    assert any(line.startswith("tables: differs from the reference and must not: repeat 2, p") for line in remarks)
    console = Console(width=300)
    with console.capture() as taken:
        console.print(report.table(grid, [cell]))
    assert taken.get().count("3/4 DIFFERS") == 3


def test_failures_leave_the_other_repeats_and_methods() -> None:
    """A method that failed once keeps its other ratio; a repeat without any run is said for all."""
    grid = made(repeats=2)
    base, tables, own = rows_of(grid, result(grid, 0, 2.0, None, 1.0), result(grid, 1, 2.0, 1.0, 1.0))
    assert (tables.ratios, tables.speedup, tables.error, tables.repeats) == ((None, 2.0), 2.0, "no memory", 1)
    assert (base.error, own.error) == (None, None)
    assert auto_verdict([base, tables, own]) == AutoVerdict("tables", 1.0, None)
    nothing = rows_of(grid, result(grid, 0, failure="too long"))
    assert [(row.repeats, row.error) for row in nothing] == [(0, "too long")] * 3
    assert auto_verdict(nothing) is None
    assert rows_of(grid, result(grid, 0, 2.0))[1:] == ()  # interrupted after the first


def line(mode: str, *ratios: float) -> BenchRow:
    """A row with these ratios."""
    middle = sorted(ratios)[len(ratios) // 2]
    return BenchRow(mode, mode, 2, len(ratios), 1.0, 4, 1.0, middle, None, ratios)


@pytest.mark.parametrize(
    ("own", "best", "ratio", "said"),
    [
        ((1.95,), (2.0,), 0.975, "within 5 %"),
        ((1.8,), (2.0,), 0.9, "more than 5 % slower"),
        ((2.2,), (2.0,), 1.1, "as fast"),
        ((1.8, 1.8, 1.8), (2.0, 2.0, 2.0), 0.9, "more than 5 % slower"),
        ((1.4, 2.4, 1.8), (2.0, 2.0, 2.0), 0.9, "the interval reaches 1"),
    ],
)
def test_auto_is_held_against_the_fastest_other_method(
    own: tuple[float, ...], best: tuple[float, ...], ratio: float, said: str
) -> None:
    """In the same repeat; 5 %, or an interval that reaches 1."""
    found = auto_verdict([line(BASELINE, *[1.0] * len(own)), line("seed-ngram", *best), line(OWN, *own)])
    assert found is not None
    assert (found.best, found.said) == ("seed-ngram", said)
    assert found.ratio == pytest.approx(ratio)
    assert found.near == ("slower" not in said)
    assert report.auto(found).endswith(f"fixed configuration, seed-ngram: {said}")


def test_beams_are_other_work_than_what_auto_does() -> None:
    """However fast they are, ``auto`` is not held against them."""
    beams = replace(line("seed-ngram@num_beams=4", 9.0), beams=True)
    found = auto_verdict([line(BASELINE, 1.0), beams, line("seed-model", 2.0), line(OWN, 2.0)])
    assert found is not None
    assert found.best == "seed-model"


def test_a_picture_has_room_for_what_is_missing(tmp_path: Path) -> None:
    """A method without a speed has no bar."""
    grid = made()
    rows = (replace(line(BASELINE, 1.0), label="AR"), replace(line(OWN, 1.0), label="auto", speedup=None))
    draw(grid, [GridCell("mini", 0.0, 2, (), rows)], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
