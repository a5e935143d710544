"""How many steps of beams a draft model drafts: as many as measured times and late acceptance pay for, perhaps none.

What :func:`..budget.best_chain` is for single branches: a pass over G groups takes t(R, n) seconds with R rows and n
drafted nodes, and every group gets 1 + a + a^2 + ... steps of it, a being the chance that a drafted step holds all the
beams of the target's. The work on a step's joint law, over the whole vocabulary, takes its time as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base import RoundLoad

START = 0.5
"""Chance of a drafted step of which nothing is known: all its beams must be there, not one token."""
FADE = 0.2
"""Weight of the latest step in the mean time of the work on one."""
FORGET = 0.99
"""Share of that time that is still believed a round later in which nothing was drafted for want of it."""


@dataclass(frozen=True, slots=True)
class BeamLoad:
    """Groups of beams that are drafted for together."""

    groups: int
    rows: int
    """Distinct live beams of all of them."""
    nodes: int
    """Drafted for all of them in one step."""


class BeamDepthPolicy:
    """Decides for one draft model."""

    def __init__(
        self, target: Callable[[float, float], float], draft: Callable[[float], float], acceptance: Callable[[], float]
    ) -> None:
        """Seconds of a target pass by rows and drafted nodes, and of a draft pass by tokens; chance of a step."""
        self._target, self._draft, self._acceptance = target, draft, acceptance
        self._work: float | None = None
        """Seconds of a step of one group besides the pass, in the mean; None before the first."""

    def worked(self, seconds: float) -> None:
        """A step of one group has been worked out."""
        self._work = seconds if self._work is None else self._work + FADE * (seconds - self._work)

    def depth(self, asked: BeamLoad, others: RoundLoad, most: int) -> int:
        """The number of steps, up to ``most``, with which all branches get the most per second."""
        rows, chance = asked.rows + others.rows, self._acceptance()
        best, rate = 0, (asked.groups + others.tokens) / self._target(rows, others.nodes)
        drafting, steps = 0.0, 1.0
        for depth in range(1, most + 1):
            drafting += self._draft(asked.rows if depth == 1 else asked.nodes) + asked.groups * (self._work or 0.0)
            steps += chance**depth
            seconds = self._target(rows, others.nodes + depth * asked.nodes) + drafting
            if (asked.groups * steps + others.tokens) / seconds > rate:
                best, rate = depth, (asked.groups * steps + others.tokens) / seconds
        if best == 0 and self._work is not None:
            self._work *= FORGET  # or one step that was held up would end drafting for good
        return best
