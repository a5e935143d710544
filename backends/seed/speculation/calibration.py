"""Estimates how often drafted tokens are accepted, from the outcomes of verification."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

BINS = 12
"""Intervals of confidence that outcomes are counted by."""
FORGET = 0.995
"""Weight that outcomes keep per round, so that a drafter whose quality changes is noticed."""
PRIOR = 6.0
"""Weight of a drafter's own confidence, in outcomes."""
UNTRIED = 4
"""Rows for each node of the first drafts."""
START = 0.7
"""Acceptance rate of a drafter without outcomes (Liu et al., arXiv 2406.14066)."""


@dataclass(slots=True)
class AcceptanceEstimator:
    """The acceptance of one kind of drafts: outcomes by confidence, and over all."""

    hits: array[float] = field(default_factory=lambda: array("d", [0.0]) * BINS)
    """Accepted tokens, by interval of confidence."""
    trials: array[float] = field(default_factory=lambda: array("d", [0.0]) * BINS)
    """Verified tokens whose parent was accepted."""
    _expected: array[float] = field(default_factory=lambda: array("d", [0.0]) * BINS)
    """Their summed confidence."""
    overall: float = 1.0
    """Accepted tokens for each expected one, over all confidences, at most 1: a bad drafter is bad at every one."""

    _idle: int = 0
    """Rounds without outcomes since the last ones, which have not been counted yet."""

    def settle(self) -> AcceptanceEstimator:
        """Count rounds without outcomes; returns itself."""
        if self._idle:
            self._fade(FORGET**self._idle)
            self._idle = 0
            self.overall = min(1.0, (sum(self.hits) + PRIOR) / (sum(self._expected) + PRIOR))
        return self

    def _fade(self, part: float) -> None:
        for counts in (self.hits, self.trials, self._expected):
            counts[:] = array("d", [count * part for count in counts])

    def probability(self, confidence: float) -> float:
        """The probability that a token of such a confidence is accepted once its parent is."""
        interval = _interval(confidence)
        self.settle()
        return (self.hits[interval] + PRIOR * self.overall * confidence) / (self.trials[interval] + PRIOR)

    def probabilities(self, confidences: Iterable[float]) -> list[float]:
        """:meth:`probability` of many tokens."""
        self.settle()
        rates = [(hits, trials + PRIOR) for hits, trials in zip(self.hits, self.trials, strict=True)]
        scale, last = PRIOR * self.overall, BINS - 1
        found = []
        for confidence in confidences:
            hits, trials = rates[min(last, int(max(confidence, 0.0) * BINS))]
            found.append((hits + scale * confidence) / trials)
        return found

    def acceptance(self, start: float = START) -> float:
        """The recent acceptance rate over all confidences; ``start`` is its value before any outcome."""
        self.settle()
        return (sum(self.hits) + PRIOR * start) / (sum(self.trials) + PRIOR)

    @property
    def accepted(self) -> float:
        """Recently accepted tokens."""
        return sum(self.settle().hits)

    def most_nodes(self, rows: int) -> int:
        """How many nodes ``rows`` rows may have: few of a kind that was hardly accepted, then more.

        Until verification has shown what they are worth, drafts that claim much would take much time.
        """
        return int((rows + UNTRIED - 1) // UNTRIED * (1 + self.accepted))

    @property
    def accepted_per_expected(self) -> float:
        """Recently accepted tokens for each one that was expected by the confidences."""
        self.settle()
        return (sum(self.hits) + PRIOR * START) / (sum(self._expected) + PRIOR)

    def learn(self, outcomes: Sequence[tuple[float, bool]]) -> None:
        """Outcomes of one round: (confidence, accepted) of every drafted token whose parent was accepted."""
        if not outcomes:
            self._idle += 1
            return
        self._fade(FORGET ** (1 + self._idle))
        self._idle = 0
        for confidence, accepted in outcomes:
            interval = _interval(confidence)
            self.hits[interval] += accepted
            self.trials[interval] += 1
            self._expected[interval] += confidence
        self.overall = min(1.0, (sum(self.hits) + PRIOR) / (sum(self._expected) + PRIOR))


def _interval(confidence: float) -> int:
    return min(BINS - 1, int(max(confidence, 0.0) * BINS))
