"""The picture of a comparison: speed-ups with their intervals, and a dot for each repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure  # without pyplot: no window, no state, always the Agg renderer

from ..comparison.speedup import Score


def plot(path: Path, scores: Sequence[Score], title: str) -> None:
    """Draw the speed-ups over the first of the scores. Raises OSError."""
    reference, others = scores[0], scores[1:]
    figure = Figure(figsize=(7.0, 1.3 + 0.5 * len(others)), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.axvline(1.0, color="0.6", linewidth=1, linestyle="--")
    for row, score in enumerate(others):
        found, ratios = score.speedup(reference), score.ratios(reference)
        if found is None:
            continue
        axes.plot(ratios, [row] * len(ratios), "o", color="tab:blue", alpha=0.35, markersize=5)
        low, high = found.interval or (found.ratio, found.ratio)
        spread = [[found.ratio - low], [high - found.ratio]]
        axes.errorbar(found.ratio, row, xerr=spread, fmt="D", color="black", capsize=4, markersize=4)
        axes.annotate(f"{found.ratio:.2f}", (found.ratio, row), (0, 7), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(others)), [_short(score.backend) for score in others])
    axes.set_ylim(len(others) - 0.4, -0.6)  # the first of them on top
    axes.set_xlim(left=0)
    repeats = len(reference.passes)
    axes.set_xlabel(f"times as fast as {_short(reference.backend)}" + (" (bars: 95 % interval)" if repeats > 2 else ""))
    axes.set_title(title, fontsize="medium")
    figure.savefig(path, format="png")


def _short(name: str) -> str:
    """The end of a long path, where paths differ."""
    return name if len(name) <= 32 else f"...{name[-29:]}"
