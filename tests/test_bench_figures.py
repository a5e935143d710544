"""The arithmetic of ``treeagent bench``: ratios, equality, and what its table says of them."""

from __future__ import annotations

import pytest
from bench_runs import made
from rich.console import Console

from treeagent.backends.bench.config.modes import MODES, SERIAL
from treeagent.backends.bench.equality import TokenDifference, first_difference
from treeagent.backends.bench.results import report
from treeagent.backends.bench.results.rows import Estimate, summarise
from treeagent.backends.bench.results.runs import BenchRun, PlanResult
from treeagent.backends.bench.runners import generate as generating
from treeagent.backends.bench.runners.base import Measurement

REFERENCE = ((1, 2), (3, 4))


def fake(name, seconds, outputs=REFERENCE, branches=2, repeat=0, figures=None):
    """A run that took so long."""
    return BenchRun(MODES[name], branches, repeat, Measurement(tuple(outputs), seconds, figures or {}))


def cells_of(grid, runs, reference=REFERENCE):
    """The cells of a grid of one plan."""
    return summarise(grid, [PlanResult(grid.plans[0], tuple(runs), reference)])


def rows_of(grid, runs, reference=REFERENCE):
    """The rows of all cells."""
    return [row for cell in cells_of(grid, runs, reference) for row in cell.rows]


def shown(grid, runs, reference=REFERENCE):
    """The table, and the remarks on a CPU."""
    cells = cells_of(grid, runs, reference)
    return text_of(report.table(grid, cells)), report.remarks(grid, cells, cpu=True)


def test_speed_ups_are_medians_of_ratios_within_a_repeat():
    """A slow minute of the machine that strikes both modes changes nothing."""
    grid = made(modes=[SERIAL, "seed"], repeat=3)
    runs = [fake(SERIAL, seconds, branches=16, repeat=i) for i, seconds in enumerate((4.0, 8.0, 6.0))]
    runs += [fake("seed", seconds, branches=16, repeat=i) for i, seconds in enumerate((2.0, 2.0, 2.0))]
    serial, seed = rows_of(grid, runs)
    assert (serial.seconds, serial.tokens_per_second, serial.speedup) == (6.0, pytest.approx(4 / 6), 1.0)
    assert seed.ratios == (2.0, 4.0, 3.0)
    assert seed.speedup == 3.0
    assert seed.interval is not None
    assert seed.interval[0] < 3 < seed.interval[1]
    assert seed.interval[0] * seed.interval[1] == pytest.approx(24 ** (2 / 3))  # symmetric about the geometric mean
    [_, alone] = rows_of(made(modes=[SERIAL, "seed"]), [run for run in runs if run.repeat == 0])
    assert alone.interval is None


def test_modes_with_fewer_tokens_are_not_faster_for_it():
    """Speed is tokens per second: whose texts end early has less to do."""
    runs = [fake(SERIAL, 4.0, branches=16), fake("seed", 2.0, [(1,), (3,)], branches=16)]
    assert rows_of(made(modes=[SERIAL, "seed"]), runs, None)[1].speedup == 1.0


def test_equality_is_that_of_the_worst_repeat():
    """One differing repeat is a difference; where it is exact, a wrong one."""
    changes = {"modes": ["seed"], "branches": [2], "repeat": 2}
    runs = [fake("seed", 1.0), fake("seed", 1.0, [(1, 2), (3, 5)], repeat=1)]
    [row] = rows_of(made(**changes), runs)
    assert (row.equal, row.compared, row.wrong) == (1, 2, True)
    assert (row.difference, row.difference_repeat) == (TokenDifference(1, 1, 4, 5), 1)
    [coarse] = rows_of(made(**changes, dtype="bfloat16"), runs)
    assert (coarse.equal, coarse.wrong) == (1, False)
    [unchecked] = rows_of(made(**changes), runs, None)
    assert (unchecked.equal, unchecked.wrong) == (None, False)


def test_own_noise_is_not_compared():
    """Above temperature 0 transformers draws tokens of its own, keyed backends the reference's."""
    grid = made(modes=[SERIAL, "seed"], branches=[2], temperatures=(1.0,), baseline=SERIAL)
    runs = [fake(name, 1.0, [(9, 9), (9, 9)]) for name in (SERIAL, "seed")]
    serial, seed = rows_of(grid, runs)
    assert (serial.equal, serial.wrong, seed.equal, seed.wrong) == (None, False, 0, True)
    table, _ = shown(grid, runs)
    assert "own noise" in table
    assert "0/2 DIFFERS" in table


def text_of(table):
    """What a table looks like."""
    console = Console(width=300)
    with console.capture() as taken:
        console.print(table)
    return taken.get()


def test_figures_of_the_engine_have_columns_where_there_are_any():
    """Acceptance, overhead and memory of the median run; a mode without them shows a dash."""
    figures = {"block_efficiency": 2.5, "drafted": 40, "accepted": 30, "overhead": 0.125, "kv_peak_bytes": 3 * 2**20}
    grid = made(modes=[SERIAL, "seed"], branches=[2])
    assert "KV peak" not in shown(grid, [fake(SERIAL, 1.0)])[0]
    runs = [fake(SERIAL, 1.0), fake("seed", 1.0, figures=figures)]
    assert rows_of(grid, runs)[1].block_efficiency == Estimate(2.5, None)
    line = next(line for line in shown(grid, runs)[0].splitlines() if "│ seed " in line)
    assert [cell.strip() for cell in line.split("│")[-5:-1]] == ["2.50", "75 %", "12.5 %", "3.0 MiB"]


def test_scaling_is_the_factor_for_twice_as_many_branches():
    """Time per token of 4 branches against 1 is two doublings."""
    grid = made(scaling=True, branches=[1, 4])
    runs = [fake("seed", 1.0, [(1, 2)], branches=1), fake("seed", 1.0, [(1, 2)] * 4, branches=4)]
    assert [row.per_doubling for row in rows_of(grid, runs, None)] == [None, pytest.approx(0.5)]
    assert "0.50x" in shown(grid, runs, None)[0]


def test_failures_are_reported():
    """Other modes keep their rows."""
    grid = made(modes=[SERIAL, "seed"], branches=[2])
    runs = [fake(SERIAL, 1.0), BenchRun(MODES["seed"], 2, 0, None, "seed: no memory")]
    table, remarks = shown(grid, runs)
    assert "failed" in table
    assert remarks == ["seed: no memory"]
    assert rows_of(grid, runs)[0].speedup == 1.0


def test_equality_without_outputs_is_reported():
    """Empty texts are equal, which shows nothing."""
    grid, runs = made(modes=[SERIAL], branches=[2]), [fake(SERIAL, 1.0, [(), ()])]
    [row] = rows_of(grid, runs, ((), ()))
    assert (row.equal, row.tokens_per_second, row.speedup) == (2, None, None)
    assert shown(grid, runs, ((), ()))[1][0].startswith("no mode generated any token")


def test_runs_that_were_delayed_are_reported():
    """Where the process had no core for a good part of a run; on a GPU nothing follows from that."""
    grid = made(modes=[SERIAL], branches=[2], repeat=2)
    measured = [Measurement(REFERENCE, 2.0, cpu_seconds=cpu) for cpu in (0.5, 3.9)]
    cells = cells_of(grid, [BenchRun(MODES[SERIAL], 2, i, each) for i, each in enumerate(measured)])
    assert cells[0].rows[0].disturbed == 1
    assert report.remarks(grid, cells, cpu=False) == []
    assert report.remarks(grid, cells, cpu=True)[0].startswith("1 of 2 runs were held up")


def test_differences_have_a_place():
    """The first prompt and position that differ; a text that ends early differs at its end."""
    assert first_difference([(1, 2), (3, 4)], [(1, 2), (3, 4)]) is None
    assert first_difference([(1, 2), (3, 4)], [(1, 2), (7, 4)]) == TokenDifference(1, 0, 3, 7)
    assert first_difference([(1, 2)], [(1,)]) == TokenDifference(0, 1, 2, None)
    assert "the end of the text" in str(TokenDifference(0, 1, 2, None, 1e-6))


def test_texts_are_cut_at_their_end():
    """What follows an end-of-text token is padding."""
    assert generating.cut([5, 6, 0, 7, 0], frozenset({0, 9})) == (5, 6)
    assert generating.cut([5, 6], frozenset()) == (5, 6)
