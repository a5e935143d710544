"""A picture of a benchmark: bars for one number of branches, lines for several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..config.plan import Plan
from .report import title
from .rows import Row


def draw(plan: Plan, rows: Sequence[Row], path: Path) -> None:
    """Write the picture; the format is that of the file's suffix."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    done = [row for row in rows if row.tokens_per_second is not None]
    modes = list(dict.fromkeys(row.mode for row in done))
    if len(plan.branches) > 1:
        for mode in modes:
            own = [row for row in done if row.mode == mode]
            axes.plot(
                [row.branches for row in own], [1e3 * (row.seconds_per_token or 0) for row in own], "o-", label=mode
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(plan.branches, [str(count) for count in plan.branches])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("branches")
        axes.set_ylabel("ms per token, all branches together")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    else:
        bars = axes.barh(modes[::-1], [row.tokens_per_second or 0 for row in done][::-1])
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set_xlabel("tokens/s")
        axes.margins(x=0.12)
    axes.set_title(title(plan), fontsize=8, wrap=True)
    figure.savefig(path, dpi=150)
