"""A benchmark from its plan to its tables, file and picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from treeagent.errors import ConfigError

from . import cell_report
from .config.methods import Cell, Method
from .config.plan import Plan
from .lines import lines
from .measure import Bench
from .progress import BenchProgress
from .results import record, report
from .results.rows import summarize
from .suite import WorkloadGrid

EQUAL, DIFFERENT, FAILED = 0, 1, 3
"""Exit codes, beside 2 for wrong usage and 130 for Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go."""

    json: Path | None
    plot: Path | None
    quiet: bool
    """Whether no progress is shown."""


def run_modes(plan: Plan, outputs: Outputs) -> int:
    """Measure, print and write the modes of a plan; the exit code.

    What was measured before Ctrl-C is printed and written, too. Raises TreeagentError, KeyboardInterrupt.
    """
    began = datetime.now(timezone.utc)
    bench = Bench(plan, BenchProgress(quiet=outputs.quiet))
    interrupted: KeyboardInterrupt | None = None
    try:
        bench.measure()
    except KeyboardInterrupt as error:
        interrupted = error
        if not bench.runs:
            raise
    rows = summarize(plan, bench.runs, bench.reference)
    if interrupted is None:
        rows = [
            row if row.difference is None else replace(row, difference=bench.explained(row.difference)) for row in rows
        ]
    typer.echo(report.title(plan))
    _print(report.table(plan, rows))
    typer.echo(report.caption(plan))
    for line in report.remarks(rows, cpu=bench.device.type == "cpu"):
        typer.echo(line)
    with _writing():
        _write(outputs.json, record.to_json(bench, rows, began))
        if outputs.plot is not None:
            from .results.plot import draw  # noqa: PLC0415  # matplotlib

            draw(plan, rows, outputs.plot)
    if interrupted is not None:
        raise interrupted
    return _exit_code(wrong=any(row.wrong for row in rows), failed=any(row.error is not None for row in rows))


def run_papers(cells: Sequence[Cell], methods: Sequence[Method], outputs: Outputs) -> int:
    """The same for the methods of the literature, cell by cell."""
    began = datetime.now(timezone.utc)
    grid = WorkloadGrid(cells, BenchProgress(quiet=outputs.quiet))
    interrupted: KeyboardInterrupt | None = None
    try:
        grid.measure()
    except KeyboardInterrupt as error:
        interrupted = error
        if not grid.measured:
            raise
    tables = [
        lines(benches, methods, grid.failures_of(place), explain=interrupted is None)
        for place, benches in enumerate(grid.benches)
    ]
    cpu = grid.benches[0][0].device.type == "cpu"
    for cell, rows in zip(cells, tables, strict=True):
        if not rows:
            continue  # interrupted before it
        _print(cell_report.table(cell, rows))
        for remark in cell_report.remarks(rows, cpu=cpu):
            typer.echo(remark)
        typer.echo()
    for text in cell_report.caption(cells, methods):
        typer.echo(text)
    with _writing():
        _write(outputs.json, cell_report.to_json(grid, methods, tables, began))
        if outputs.plot is not None:
            from .cell_plot import draw  # noqa: PLC0415  # matplotlib

            draw(cells, tables, outputs.plot)
    if interrupted is not None:
        raise interrupted
    every = [row for rows in tables for row in rows]
    return _exit_code(wrong=any(row.wrong for row in every), failed=any(row.error is not None for row in every))


def _print(table: Table) -> None:
    """Print a table in its full width, so that no figure is cut."""
    width = max(Console().width, Console(width=1000).measure(table).maximum)
    Console(width=width).print(table)


def _write(path: Path | None, content: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _writing() -> Iterator[None]:
    """Turn an OSError into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"the results cannot be written: {error}") from error


def _exit_code(*, wrong: bool, failed: bool) -> int:
    return DIFFERENT if wrong else FAILED if failed else EQUAL
