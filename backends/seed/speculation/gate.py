"""The gate that switches drafting off where it does not pay."""

from __future__ import annotations

import math
from dataclasses import dataclass

TRIAL = 24
"""Rounds before drafting is judged: an empty table needs some to learn."""
TOLERANCE = -0.02
"""Log ratio down to which drafting continues: tables that are still empty must be allowed to learn."""
WORST = -0.15
"""Least log ratio that a round counts: one in which a drafter reads new prompts says little about the others."""
BRIEF_TRIAL, LOST = 6, -0.08
"""Rounds before drafting is judged, and log ratio, where it costs very much, as over a tiny model, whose passes take
little longer than a drafter's work."""
FIRST_PAUSE, LONGEST = 64, 4096
"""Rounds of the first pause and of the longest; each is twice as long as the one before."""


@dataclass(slots=True)
class Gate:
    """Whether drafting pays, its own time included: over a small model a table may cost more than it saves."""

    _advantage: float = 0.0
    """Recent mean of the log ratio of tokens per second, with drafting over without."""
    _tried: int = 0
    """Rounds with drafting since the last pause."""
    _paused: int = 0
    """Rounds until drafting is tried again."""
    _next_pause: int = FIRST_PAUSE

    @property
    def paused(self) -> bool:
        """Whether drafting is off."""
        return self._paused > 0

    def pause(self, rounds: int) -> None:
        """Switch drafting off until it has been wanted so many times."""
        self._paused = rounds

    def open(self) -> bool:
        """Whether to draft in this round; called once in each round in which drafts are wanted."""
        self._paused = max(0, self._paused - 1)
        return not self.paused

    def learn(self, tokens: float, seconds: float, plain_tokens: float, plain_seconds: float) -> None:
        """Expected tokens and seconds of a round with drafting, and those of the same round without."""
        self._tried += 1
        ratio = max(WORST, math.log(tokens / seconds * plain_seconds / plain_tokens))
        self._advantage += (ratio - self._advantage) / min(self._tried, TRIAL)
        tried = self._tried
        if (tried >= TRIAL and self._advantage < TOLERANCE) or (tried >= BRIEF_TRIAL and self._advantage < LOST):
            self.pause(self._next_pause)
            self._next_pause = min(2 * self._next_pause, LONGEST)
            self._tried, self._advantage = 0, 0.0
