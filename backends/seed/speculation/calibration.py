"""AcceptanceEstimator of a drafter's confidences by what was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

BINS = 12


FORGET = 0.995
"""Weight that evidence keeps per round, so that a drafter whose luck changes is found out."""


PRIOR = 6.0
"""Outcomes that a claim itself is worth."""


START = 0.7
"""Acceptance that an unknown drafter is credited with (Liu et al.)."""


@dataclass(slots=True)
class AcceptanceEstimator:
    """What the claims of one drafter were worth: outcomes by claimed confidence, and over all."""

    hits: list[float] = field(default_factory=lambda: [0.0] * BINS)
    trials: list[float] = field(default_factory=lambda: [0.0] * BINS)
    claimed: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def worth(self, confidence: float) -> float:
        """The probability that a claim turns out right."""
        at = _bin(confidence)
        hits, claimed = sum(self.hits), sum(self.claimed)
        overall = min(1.0, (hits + PRIOR) / (claimed + PRIOR)) * confidence  # one bad drafter is bad at every claim
        return (self.hits[at] + PRIOR * overall) / (self.trials[at] + PRIOR)

    def acceptance(self, start: float = START) -> float:
        """How often claims have come true of late, over all; ``start`` is what is believed before."""
        return (sum(self.hits) + PRIOR * start) / (sum(self.trials) + PRIOR)

    @property
    def truth(self) -> float:
        """How many nodes of late were accepted for each that was claimed."""
        return (sum(self.hits) + PRIOR * START) / (sum(self.claimed) + PRIOR)

    def learn(self, outcomes: Sequence[tuple[float, bool]]) -> None:
        """Outcomes of one round: (claimed confidence, accepted) of every node whose parent was accepted."""
        for counts in (self.hits, self.trials, self.claimed):
            counts[:] = [count * FORGET for count in counts]
        for confidence, accepted in outcomes:
            at = _bin(confidence)
            self.hits[at] += accepted
            self.trials[at] += 1
            self.claimed[at] += confidence


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(max(confidence, 0.0) * BINS))
