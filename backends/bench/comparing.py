"""``treeagent bench --seeds`` from its cells to its tables, file and picture."""

from __future__ import annotations

import json as writer
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import typer
from rich.console import Console

from treeagent.errors import ConfigError

from . import cell_report
from .config.methods import Cell, Method
from .lines import lines
from .progress import Board
from .suite import Comparison


def compare(
    cells: Sequence[Cell], methods: Sequence[Method], *, json: Path | None, plot: Path | None, quiet: bool
) -> bool | None:
    """Measure, print and write everything; whether tokens and runs are as they should be, None where a run failed.

    What was measured before Ctrl-C is printed and written, too. Raises TreeagentError, KeyboardInterrupt.
    """
    began = datetime.now(timezone.utc)
    work = Comparison(cells, Board(quiet=quiet))
    interrupted: KeyboardInterrupt | None = None
    try:
        work.measure()
    except KeyboardInterrupt as stopped:
        interrupted = stopped
        if not work.measured:
            raise
    tables = [
        lines(benches, methods, work.failures_of(place), explain=interrupted is None)
        for place, benches in enumerate(work.benches)
    ]
    cpu = work.benches[0][0].device.type == "cpu"
    for cell, found in zip(cells, tables, strict=True):
        if not found:
            continue  # interrupted before it
        shown = cell_report.table(cell, found)
        width = max(Console().width, Console(width=1000).measure(shown).maximum)  # figures are never cut
        Console(width=width).print(shown)
        for remark in cell_report.remarks(found, cpu=cpu):
            typer.echo(remark)
        typer.echo()
    for told in cell_report.caption(cells, methods):
        typer.echo(told)
    try:
        if json is not None:
            content = writer.dumps(cell_report.to_json(work, methods, tables, began), indent=1)
            json.write_text(content + "\n", encoding="utf-8")
        if plot is not None:
            from .cell_plot import draw  # noqa: PLC0415  # matplotlib

            draw(cells, tables, plot)
    except OSError as error:
        raise ConfigError(f"what was measured cannot be written: {error}") from error
    if interrupted is not None:
        raise interrupted
    if any(line.wrong for found in tables for line in found):
        return False
    return None if any(line.error is not None for found in tables for line in found) else True
