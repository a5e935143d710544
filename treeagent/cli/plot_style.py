"""The look of all plots of evaluations and comparisons: legible from the last row of a room, one message each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure  # without pyplot: no window, no state

WIDTH, HEIGHT = 8.0, 4.5
"""Inches: the form of a slide."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Told apart by the colour-blind as well (Okabe & Ito 2008)."""
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
LETTERS = 56
"""Of a title on a line."""
LONGEST_NAME = 32
"""Letters of a name on an axis."""
_STYLE = {
    "font.size": 14,
    "figure.titlesize": 16,
    "figure.titleweight": "bold",
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "axes.labelsize": 14,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d0d4d9",
    "lines.linewidth": 2.4,
    "text.parse_math": False,  # a name with dollars is no formula
    "svg.hashsalt": "treeagent",
}


@contextmanager
def plotted(path: Path, message: str, note: str = "", *, height: float = HEIGHT) -> Iterator[Any]:
    """The axes of a figure whose title is its message; written to ``path`` at the end. Raises OSError.

    ``note`` is a line below: whom the figure is about, and what it leaves out.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=200, layout="constrained")
        axes = figure.subplots()
        axes.set_prop_cycle(color=COLOURS)
        figure.suptitle("\n".join(textwrap.wrap(message, LETTERS)), x=0.015, ha="left")
        yield axes
        if note:
            figure.supxlabel("\n".join(textwrap.wrap(note, 92)), fontsize=11, color="#505861", x=0.015, ha="left")
        figure.savefig(path, format=path.suffix[1:].lower())


def rows_of(axes: Any, names: list[str]) -> None:
    """A row for each name, the first on top, so that long names can be read."""
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def spread(value: float, low: float, high: float) -> list[list[float]]:
    """An interval about a value as error bars have it; a limit may be on the wrong side of it by a rounding."""
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def percent(share: float) -> str:
    """A share as percent, as the axes have it."""
    return f"{100 * share:.0f} %"


def as_percent(axis: Any) -> None:
    """Shares as percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def shortened(name: str) -> str:
    """The end of a long name: paths differ at their ends."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
