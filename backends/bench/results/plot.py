"""The plot of a benchmark: a panel for every workload and temperature, bars for one number of branches, else lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..config.methods import OWN
from ..config.plan import BenchGrid
from ..widened.label import labelled
from .rows import BenchRow, GridCell

PANEL_WIDTH, BAR_HEIGHT, LINES_HEIGHT = 4.2, 0.26, 4.2
"""Inches."""


def draw(grid: BenchGrid, cells: Sequence[GridCell], path: Path) -> None:
    """Write the plot, workloads downwards and temperatures across; the format is that of the file's suffix."""
    scaling = len(grid.branches) > 1
    labels = [method.label for method in grid.methods]
    height = LINES_HEIGHT if scaling else BAR_HEIGHT * len(labels) + 0.9
    size = (PANEL_WIDTH * len(grid.temperatures) + 2, height * len(grid.workloads) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(grid.workloads), len(grid.temperatures), sharex=True, sharey=True, squeeze=False)
    for place, workload in enumerate(grid.workloads):
        for across, temperature in enumerate(grid.temperatures):
            axes = panels[place, across]
            own = [cell for cell in cells if (cell.workload, cell.temperature) == (workload, temperature)]
            rows = [row for cell in own for row in cell.rows]
            axes.set_title(f"{workload}, temperature {temperature:g}", fontsize="medium")
            if scaling:
                _lines(axes, grid, rows)
            else:
                _bars(axes, grid, rows)
    for axes in panels[-1]:
        axes.set_xlabel("branches" if scaling else f"speed-up against {grid.baseline}")
    if not scaling:
        panels[0, 0].set_yticks(range(len(labels)), labels)
        panels[0, 0].invert_yaxis()
    settings = grid.settings
    draft = "" if settings.draft is None else f", draft {settings.draft}"
    branches = ", ".join(map(str, grid.branches))
    figure.suptitle(
        f"{labelled(settings.title or settings.model)}, {settings.dtype}{draft}, {branches} branches",
        fontsize="medium",
        wrap=True,
    )
    figure.savefig(path, dpi=150)


def _lines(axes: Axes, grid: BenchGrid, rows: Sequence[BenchRow]) -> None:
    """Time per token by number of branches, a line for each mode."""
    for method in grid.methods:
        points = [
            (row.branches, 1e3 * row.seconds_per_token)
            for row in rows
            if row.mode == method.name and row.seconds_per_token is not None
        ]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], "o-", label=method.label)
            axes.legend(fontsize="small")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(grid.branches, [str(count) for count in grid.branches])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("ms per token, all branches together")
    axes.grid(visible=True, alpha=0.3)


def _bars(axes: Axes, grid: BenchGrid, rows: Sequence[BenchRow]) -> None:
    """Speed-ups, with their intervals where they are known, and tokens per second."""
    axes.axvline(1, color="grey", linewidth=0.8)
    labels = [method.label for method in grid.methods]
    for row in rows:
        if row.speedup is None:
            continue
        place = labels.index(row.label)
        axes.barh(place, row.speedup, color={grid.baseline: "grey", OWN: "tab:orange"}.get(row.mode, "tab:blue"))
        end = row.speedup
        if row.interval is not None and row.mode != grid.baseline:
            low, end = row.interval
            axes.plot([low, end], [place, place], color="black", linewidth=1)
        text = f" {row.speedup:.2f} ({row.tokens_per_second or 0:,.1f} tokens/s)"
        axes.text(max(end, row.speedup), place, text, va="center", fontsize="x-small")
    axes.margins(x=0.3, y=0.01)
