"""Plot of a comparison: the speed-ups with their intervals, and a dot for each repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..comparison.speedup import Score
from .plot_style import COLOURS, plotted, rows_of, shortened, spread


def draw_speedups(path: Path, scores: Sequence[Score], title: str) -> None:
    """Draw the speed-ups over the first score and write them to a file. Raises OSError."""
    reference, others = scores[0], scores[1:]
    known = [(score, speedup) for score in others if (speedup := score.speedup(reference)) is not None]
    best = max(known, key=lambda pair: pair[1].ratio, default=None)
    against = shortened(reference.backend)
    message = (
        f"The speed-up over {against} is unknown: too fast for the clock"
        if best is None
        else f"{shortened(best[0].backend)} is {best[1].ratio:.2f} times as fast as {against}"
    )
    unknown = len(others) - len(known)
    repeats = len(reference.passes)
    note = title + ("; bars: 95 % interval" if repeats > 2 else "") + "; dots: repeats"
    note += f"; {unknown} too fast for the clock" if unknown else ""
    with plotted(path, message, note, height=max(2.8, 2.0 + 0.6 * len(known))) as axes:
        axes.axvline(1.0, color="0.35", linewidth=1.5, linestyle="--")
        for row, (score, speedup) in enumerate(known):
            ratios = score.ratios(reference)
            axes.plot(ratios, [row] * len(ratios), "o", color=COLOURS[0], alpha=0.4, markersize=8, linewidth=0)
            low, high = speedup.interval or (speedup.ratio, speedup.ratio)
            axes.errorbar(
                speedup.ratio,
                row,
                xerr=spread(speedup.ratio, low, high),
                fmt="D",
                color="black",
                capsize=6,
                markersize=7,
            )
            axes.annotate(f"{speedup.ratio:.2f}", (speedup.ratio, row), (0, 9), textcoords="offset points", ha="center")
        rows_of(axes, [score.backend for score, _ in known])
        axes.set(xlim=(0, None), xlabel=f"times as fast as {against}")
