"""Chooses how many steps of beams a draft model drafts, perhaps none, from measured times and recent acceptance.

This is to beams what :func:`..speculation.goodput.best_chain` is to single sequences: a pass over G groups takes
t(R, n) seconds with R rows and n drafted nodes, and every group gets 1 + a + a^2 + ... steps from it, where a is the
probability that a drafted step has all beams of the target's step. The time to compute a step's joint distribution over
the whole vocabulary counts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base import RoundLoad

START = 0.5
"""Acceptance of a drafted step before any outcome: all its beams must be right, not one token."""
FADE = 0.2
"""Weight of the latest step in the mean time of a step."""
FORGET = 0.99
"""Factor of that time for every round in which it was so long that nothing was drafted."""


@dataclass(frozen=True, slots=True)
class BeamLoad:
    """Groups of beams that are drafted for together."""

    groups: int
    rows: int
    """Distinct live beams of all groups."""
    nodes: int
    """Nodes drafted for all groups in one step."""


class BeamDepthPolicy:
    """Chooses the number of drafted steps for one draft model."""

    def __init__(
        self, target: Callable[[float, float], float], draft: Callable[[float], float], acceptance: Callable[[], float]
    ) -> None:
        """Seconds of a target pass by rows and drafted nodes, and of a draft pass by tokens; a step's acceptance."""
        self._target, self._draft, self._acceptance = target, draft, acceptance
        self._step_seconds: float | None = None
        """Mean seconds of a step of one group besides the pass; None before the first."""

    def record_step(self, seconds: float) -> None:
        """A step of one group took so many seconds besides the pass."""
        mean = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = mean + FADE * (seconds - mean)

    def depth(self, load: BeamLoad, others: RoundLoad, most: int) -> int:
        """The number of steps, up to ``most``, that gives the most tokens per second of all sequences together."""
        rows, acceptance = load.rows + others.rows, self._acceptance()
        best, rate = 0, (load.groups + others.tokens) / self._target(rows, others.nodes)
        drafting, steps = 0.0, 1.0
        for depth in range(1, most + 1):
            drafting += self._draft(load.rows if depth == 1 else load.nodes)
            drafting += load.groups * (self._step_seconds or 0.0)
            steps += acceptance**depth
            seconds = self._target(rows, others.nodes + depth * load.nodes) + drafting
            if (load.groups * steps + others.tokens) / seconds > rate:
                best, rate = depth, (load.groups * steps + others.tokens) / seconds
        if best == 0 and self._step_seconds is not None:
            self._step_seconds *= FORGET  # otherwise one delayed step would turn drafting off for good
        return best
