"""A whole benchmark: run the plans of its grid with the same modes in memory, print and write the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import typer
from rich.console import Console

from treeagent.display.board import StepBoard
from treeagent.errors import ConfigError, TreeagentError, did_you_mean
from treeagent.jsonl import strict

from ..local.base import find_device
from ..models import catalog as models
from ..models.model import DTYPE_NAMES
from .config.plan import BenchGrid
from .equality import TokenDifference
from .measure import PlanMeasurement
from .results import record, report
from .results.rows import GridCell, summarise
from .results.runs import PlanResult
from .runners.pool import RunnerPool

EQUAL, DIFFERENT, FAILED = 0, 1, 3
"""Exit codes, beside 2 for wrong usage and 130 for Ctrl-C."""


class GridMeasurement:
    """Carries out all plans of a grid; :meth:`cells` has what was measured so far, also after an interruption."""

    def __init__(self, grid: BenchGrid, *, quiet: bool = False) -> None:
        settings = grid.settings
        for dtype in (settings.dtype, *(mode.dtype for mode in grid.modes if mode.dtype is not None)):
            if dtype not in DTYPE_NAMES:
                raise ConfigError(f"no dtype is called {dtype!r}.{did_you_mean(dtype, DTYPE_NAMES)}")
        for name, peer in settings.peers.items():
            for place in filter(None, (peer.python, peer.model)):
                if not place.exists():
                    raise ConfigError(f"--peers {name}: there is no {place} (looked from {Path.cwd()})")
        for model in (settings.model, settings.draft):
            if model is not None:
                models.check_name(model)
        self.device = find_device(settings.device)
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        """Processes of the machine that ran or waited in the minute before the first run."""
        self.grid = grid
        self._progress = StepBoard(steps=sum(plan.steps for plan in grid.plans), quiet=quiet)
        self._pool = RunnerPool(settings, self.device)
        keep = len(grid.plans) > 1 and not settings.reopen
        self._parts = [PlanMeasurement(plan, self._pool, self._progress, keep=keep) for plan in grid.plans]

    @property
    def results(self) -> list[PlanResult]:
        """One for each plan."""
        return [part.result for part in self._parts]

    @property
    def measured(self) -> bool:
        """Whether any run succeeded."""
        return any(run.measurement is not None for result in self.results for run in result.runs)

    def measure(self) -> None:
        """Run everything. Raises TreeagentError if nothing at all could run; other failures are in the results."""
        last: TreeagentError | None = None
        try:
            for plan, part in zip(self.grid.plans, self._parts, strict=True):
                if len(self._parts) > 1:
                    self._progress.say(f"{plan.workload}, temperature {plan.sampling.temperature:g}, seed {plan.seed}")
                try:
                    part.measure()
                except TreeagentError as error:
                    last = error
                    self._progress.say(f"  nothing could run here: {error}")
        finally:
            self._pool.close(networks=self.grid.settings.reopen)
        if last is not None and not self.measured:
            raise last

    def cells(self, *, explain: bool) -> list[GridCell]:
        """All cells; ``explain`` computes the gap at each difference, for which the model is loaded again."""

        def explained(result: PlanResult, difference: TokenDifference) -> TokenDifference:
            part = next(part for part in self._parts if part.plan is result.plan)
            return part.explained(difference)

        return summarise(self.grid, self.results, explained if explain else None)


def run_grid(grid: BenchGrid, *, json: Path | None, plot: Path | None, quiet: bool) -> int:
    """Measure, print and write everything; the exit code.

    What was measured before Ctrl-C is printed and written, too. Raises TreeagentError, KeyboardInterrupt.
    """
    began = datetime.now(timezone.utc)
    work = GridMeasurement(grid, quiet=quiet)
    interrupted: KeyboardInterrupt | None = None
    try:
        work.measure()
    except KeyboardInterrupt as stop:
        interrupted = stop
        if not work.measured:
            raise
    cells = work.cells(explain=interrupted is None)
    _print(grid, cells, cpu=work.device.type == "cpu")
    try:
        if json is not None:
            machine = record.machine(grid.settings.threads, work.device, work.load)
            content = strict(record.to_json(grid, cells, machine, began), indent=1)
            json.write_text(content + "\n", encoding="utf-8")
        if plot is not None:
            from .results.plot import draw  # noqa: PLC0415  # matplotlib

            draw(grid, cells, plot)
    except OSError as error:
        raise ConfigError(f"the results cannot be written: {error}") from error
    if interrupted is not None:
        raise interrupted
    rows = [row for cell in cells for row in cell.rows]
    if any(row.wrong for row in rows):
        return DIFFERENT
    return FAILED if any(row.error is not None for row in rows) else EQUAL


def _print(grid: BenchGrid, cells: Sequence[GridCell], *, cpu: bool) -> None:
    for own in report.tables(cells):
        shown = report.table(grid, own)
        width = max(Console().width, Console(width=1000).measure(shown).maximum)  # figures are never cut
        Console(width=width).print(shown)
        for line in report.remarks(grid, own, cpu=cpu):
            typer.echo(line)
        typer.echo()
    for line in report.caption(grid):
        typer.echo(line)
