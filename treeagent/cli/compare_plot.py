"""Plot of a comparison: the speed-ups with their intervals, and a dot for each repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure  # without pyplot: no window, no state, always the Agg renderer

from ..comparison.speedup import Score


def draw_speedups(path: Path, scores: Sequence[Score], title: str) -> None:
    """Draw the speed-ups over the first score and write them as a PNG file. Raises OSError."""
    reference, others = scores[0], scores[1:]
    figure = Figure(figsize=(7.0, 1.3 + 0.5 * len(others)), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.axvline(1.0, color="0.6", linewidth=1, linestyle="--")
    for row, score in enumerate(others):
        speedup, ratios = score.speedup(reference), score.ratios(reference)
        if speedup is None:
            continue
        axes.plot(ratios, [row] * len(ratios), "o", color="tab:blue", alpha=0.35, markersize=5)
        low, high = speedup.interval or (speedup.ratio, speedup.ratio)
        spread = [[speedup.ratio - low], [high - speedup.ratio]]
        axes.errorbar(speedup.ratio, row, xerr=spread, fmt="D", color="black", capsize=4, markersize=4)
        axes.annotate(f"{speedup.ratio:.2f}", (speedup.ratio, row), (0, 7), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(others)), [_end_of(score.backend) for score in others])
    axes.set_ylim(len(others) - 0.4, -0.6)  # the first of them on top
    axes.set_xlim(left=0)
    repeats = len(reference.passes)
    axes.set_xlabel(
        f"times as fast as {_end_of(reference.backend)}" + (" (bars: 95 % interval)" if repeats > 2 else "")
    )
    axes.set_title(title, fontsize="medium")
    figure.savefig(path, format="png")


def _end_of(name: str) -> str:
    """The end of a long name: paths differ at their ends."""
    return name if len(name) <= 32 else f"...{name[-29:]}"
