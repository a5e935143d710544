"""Number of beam steps that a draft model drafts, from measured times and recent acceptance; possibly none.

It corresponds to :func:`treeagent.backends.seed.speculation.goodput.best_chain` for single sequences: a pass over G
groups takes t(R, n) seconds with R rows and n drafted nodes, and a group gains 1 + a + a^2 + ... steps of it, where a
is the probability that a drafted step contains all beams of the target's step. The time to compute the joint law of a
step over the vocabulary counts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base import RoundLoad

START = 0.5
"""Prior acceptance of a drafted step: all its beams must match, not one token."""
FADE = 0.2
"""Weight of the latest step in the moving average of the time per step."""
FORGET = 0.99
"""Decay of that time per round without drafts."""


@dataclass(frozen=True, slots=True)
class BeamLoad:
    """Groups of beams that are drafted in the same passes."""

    groups: int
    rows: int
    """Distinct live beams of all groups."""
    nodes: int
    """Drafted nodes of all groups in one step."""


class BeamDepthPolicy:
    """The decision for one draft model."""

    def __init__(
        self, target: Callable[[float, float], float], draft: Callable[[float], float], acceptance: Callable[[], float]
    ) -> None:
        """Seconds of a target pass by rows and nodes, seconds of a draft pass by tokens, acceptance of a step."""
        self._target, self._draft, self._acceptance = target, draft, acceptance
        self._work: float | None = None
        """Mean seconds per step and group outside the pass; None before the first step."""

    def record_step(self, seconds: float) -> None:
        """Record the time of one step of one group."""
        self._work = seconds if self._work is None else self._work + FADE * (seconds - self._work)

    def depth(self, beams: BeamLoad, load: RoundLoad, most: int) -> int:
        """The number of steps, at most ``most``, with the highest number of tokens per second over all sequences."""
        rows, chance = beams.rows + load.rows, self._acceptance()
        best, rate = 0, (beams.groups + load.tokens) / self._target(rows, load.nodes)
        drafting, steps = 0.0, 1.0
        for depth in range(1, most + 1):
            drafting += self._draft(beams.rows if depth == 1 else beams.nodes) + beams.groups * (self._work or 0.0)
            steps += chance**depth
            seconds = self._target(rows, load.nodes + depth * beams.nodes) + drafting
            if (beams.groups * steps + load.tokens) / seconds > rate:
                best, rate = depth, (beams.groups * steps + load.tokens) / seconds
        if best == 0 and self._work is not None:
            self._work *= FORGET  # or one delayed step would disable drafting for ever
        return best
