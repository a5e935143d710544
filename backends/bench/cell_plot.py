"""A picture of ``treeagent bench --suite papers``: a panel of bars for every kind of task and temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .config.methods import BASELINE, OWN, Cell
from .lines import Line

INCHES = (3.6, 0.24)
"""Width of a panel, and height of a bar."""


def draw(cells: Sequence[Cell], tables: Sequence[Sequence[Line]], path: Path) -> None:
    """Write the picture, kinds of task downwards and temperatures across; the format is that of the file's suffix."""
    kinds = list(dict.fromkeys(cell.workload for cell in cells))
    temperatures = list(dict.fromkeys(cell.temperature for cell in cells))
    labels = list(dict.fromkeys(line.label for lines in tables for line in lines))
    size = (INCHES[0] * len(temperatures) + 2, len(kinds) * (INCHES[1] * len(labels) + 0.9) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(kinds), len(temperatures), sharex=True, sharey=True, squeeze=False)
    for cell, lines in zip(cells, tables, strict=True):
        axes = panels[kinds.index(cell.workload), temperatures.index(cell.temperature)]
        _bars(axes, labels, lines)
        axes.set_title(f"{cell.workload}, temperature {cell.temperature:g}", fontsize="medium")
    for axes in panels[-1]:
        axes.set_xlabel("speed-up against AR")
    panels[0, 0].set_yticks(range(len(labels)), labels)
    panels[0, 0].invert_yaxis()
    plan = cells[0].plans[0]
    draft = "" if plan.draft is None else f", draft {plan.draft}"
    figure.suptitle(f"{plan.model}, {plan.dtype}{draft}, {plan.branches[0]} branches", fontsize="medium")
    figure.savefig(path, dpi=150)


def _bars(axes: Axes, labels: Sequence[str], lines: Sequence[Line]) -> None:
    """Speed-ups, with their intervals where there are any."""
    axes.axvline(1, color="grey", linewidth=0.8)
    for line in lines:
        if line.speedup is None:
            continue
        place = labels.index(line.label)
        colour = {BASELINE: "grey", OWN: "tab:orange"}.get(line.mode, "tab:blue")
        axes.barh(place, line.speedup, color=colour)
        end = line.speedup
        if line.interval is not None and line.mode != BASELINE:
            low, end = line.interval
            axes.plot([low, end], [place, place], color="black", linewidth=1)
        axes.text(max(end, line.speedup), place, f" {line.speedup:.2f}", va="center", fontsize="x-small")
    axes.margins(x=0.14, y=0.01)
