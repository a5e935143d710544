"""The engine with default options against the fastest other method of a cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from treeagent.comparison import speedup as speed

from ..config.methods import OWN
from .rows import BenchRow

NEAR = 0.95
"""Share of the best configuration's speed that ``auto`` must have."""


@dataclass(frozen=True, slots=True)
class AutoVerdict:
    """The speed of the engine with default options against the fastest other method."""

    best: str
    """Label of that method."""
    ratio: float
    """Median over the repeats of the engine's speed divided by that method's."""
    interval: tuple[float, float] | None
    """95 % interval of the ratio; None below three repeats."""

    @property
    def near(self) -> bool:
        """Whether the engine is within 5 %, or the interval includes 1."""
        return self.ratio >= NEAR or (self.interval is not None and self.interval[1] >= 1)

    @property
    def said(self) -> str:
        """The same in words."""
        if self.ratio >= NEAR:
            return "as fast" if self.ratio >= 1 else "within 5 %"
        return "the interval reaches 1" if self.near else "more than 5 % slower"


def auto_verdict(rows: Sequence[BenchRow]) -> AutoVerdict | None:
    """The engine with default options against the fastest other method without beams; None if either is missing."""
    own = next((row for row in rows if row.mode == OWN), None)
    others = [row for row in rows if row.mode != OWN and row.speedup is not None and not row.beams]
    if own is None or not others:
        return None
    best = max(others, key=lambda row: row.speedup or 0)
    pairs = zip(own.ratios, best.ratios, strict=True)
    ratios = [auto / other for auto, other in pairs if auto is not None and other is not None]
    if not ratios:
        return None
    spread = speed.speedup(ratios)
    return AutoVerdict(best.label, statistics.median(ratios), None if spread is None else spread.interval)
