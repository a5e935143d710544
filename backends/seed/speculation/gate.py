"""The gate that switches drafting off where it does not pay."""

from __future__ import annotations

import math
from dataclasses import dataclass

TRIAL = 24
"""Rounds after which drafting is judged: an empty table needs some to learn."""


TOLERANCE = -0.02
"""Log ratio down to which drafting goes on: tables that are still empty must be allowed to learn."""


WORST = -0.15
"""Log ratio that a round counts at least: one in which a drafter reads new prompts says little about the others."""


BRIEF_TRIAL, LOST = 6, -0.08
"""Rounds after which drafting rests already when it costs as much as this: over a tiny model, whose passes take hardly
longer than a drafter's work."""


LONGEST = 4096
"""Rounds of the longest rest."""


@dataclass(slots=True)
class Gate:
    """Whether drafting pays, its own time included: over a small model a table may cost more than it saves."""

    advantage: float = 0.0
    """Mean of late log ratios of tokens per second, with drafting over without."""
    _tried: int = 0
    resting: int = 0
    """Rounds until drafting is tried again."""
    _pause: int = 64

    def open(self) -> bool:
        """Whether to draft this round; after a bad time drafting rests for some rounds, longer each time."""
        self.resting = max(0, self.resting - 1)
        return self.resting == 0

    def learn(self, tokens: float, seconds: float, plain_tokens: float, plain_seconds: float) -> None:
        """What a round with drafting promises, and what it would be without."""
        self._tried += 1
        ratio = max(WORST, math.log(tokens / seconds * plain_seconds / plain_tokens))
        self.advantage += (ratio - self.advantage) / min(self._tried, TRIAL)
        tried = self._tried
        if (tried >= TRIAL and self.advantage < TOLERANCE) or (tried >= BRIEF_TRIAL and self.advantage < LOST):
            self.resting, self._pause = self._pause, min(2 * self._pause, LONGEST)
            self._tried, self.advantage = 0, 0.0
