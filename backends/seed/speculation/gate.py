"""The gate that switches drafting off where it does not pay.

What drafting loses is counted in rounds without drafts: a round that takes a tenth longer and is expected to give no
more tokens loses 0.1. Once it has lost ``GRANT``, drafting pauses; after each pause it may lose half as much again. So
the loss of drafts that never pay is a few tenths of a round for each of ever longer pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

GRANT = 0.3
"""Rounds' time that drafting may lose before it pauses, and the most that is held in its favour."""
ALLOWED = 0.01
"""Part of a round's time that drafting may lose for ever: tables that are still empty must be allowed to learn."""
WORST = 0.15
"""The most that a round counts for, unless the one before lost more: one in which a drafter reads new prompts says
little about the others."""
FIRST_PAUSE, LONGEST = 32, 4096
"""Rounds of the first pause and of the longest; each is twice as long as the one before, until drafting has paid."""


@dataclass(slots=True)
class Gate:
    """Whether drafting pays, its own time included: over a small model a table may cost more than it saves."""

    _lost: float = 0.0
    """Rounds' time that drafting has lost since the last pause, less what it has won."""
    _last: float = 0.0
    """What the last round lost."""
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
        """Whether to draft in this round; called once in each round that could have drafts."""
        if self._paused:
            self._paused -= 1
        return not self._paused

    def learn(self, tokens: float, seconds: float, plain_tokens: float, plain_seconds: float) -> None:
        """Expected tokens and seconds of a round with drafting, and those of the same round without."""
        loss = seconds / plain_seconds - tokens / plain_tokens
        self._lost = max(self._lost + min(loss, max(WORST, self._last)) - ALLOWED, -GRANT)
        self._last = loss
        if self._lost == -GRANT:
            self._next_pause = FIRST_PAUSE
        elif self._lost > GRANT:
            self.pause(self._next_pause)
            self._next_pause = min(2 * self._next_pause, LONGEST)
            self._lost = GRANT / 2
