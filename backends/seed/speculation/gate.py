"""The gate that switches drafting off where it does not pay.

What drafting loses is counted in rounds without drafts: a round that takes a tenth longer and is expected to give no
more tokens loses 0.1. Drafting is tried until it has lost ``GRANT``, reading new texts apart. Then it pauses until a
share of the rounds' time makes up for all that the trial took, and is tried again. The share falls with each trial that
does not pay; so drafts that never pay take one trial and a hundredth of the time after that, and ever less of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TRIAL = 3
"""Rounds of the shortest trial."""
GRANT = 0.3
"""Rounds' time that drafting may lose before it pauses, and the most that is held in its favour."""
READING = 3.0
"""The same of all that it takes: a drafter reads the prompts of new sequences, which says little about the others."""
SHARE, FALL, LEAST_SHARE = 0.01, 0.75, 0.0001
"""Part of the time that trials may take: at first, as a multiple of that before the last pause, and at last."""
LONGEST = 4096
"""Rounds of the longest pause."""
ALLOWED = 0.01
"""Part of a round's time that drafting may lose for ever: tables that are still empty must be allowed to learn."""


@dataclass(slots=True)
class Gate:
    """Whether drafting pays, its own time included: over a small model a table may cost more than it saves."""

    _lost: float = 0.0
    """Rounds' time that drafting has lost since the last pause, less what it has won."""
    _spent: float = 0.0
    """The same with the time of reading."""
    _tried: int = 0
    """Rounds with drafting since the last pause."""
    _paused: int = 0
    """Rounds until drafting is tried again."""
    _share: float = SHARE

    @property
    def paused(self) -> bool:
        """Whether drafting is off."""
        return self._paused > 0

    def pause(self, rounds: int) -> None:
        """Switch drafting off until it has been wanted so many times."""
        self._paused = rounds

    def open(self) -> bool:
        """Whether to draft in this round; called in each round that could have drafts."""
        if self._paused:
            self._paused -= 1
        return not self._paused

    def learn(
        self, tokens: float, seconds: float, plain_tokens: float, plain_seconds: float, reading: float = 0.0
    ) -> None:
        """Expected tokens and seconds of a round with drafting, and those of the same round without.

        ``reading``: the part of ``seconds`` in which a drafter read texts that it did not know.
        """
        loss = seconds / plain_seconds - tokens / plain_tokens - ALLOWED
        self._lost = max(self._lost + loss - reading / plain_seconds, -GRANT)
        self._spent = max(self._spent + loss, -READING)
        self._tried += 1
        if (self._lost > GRANT and self._tried >= TRIAL) or self._spent > READING:
            self.pause(min(math.ceil(max(self._lost, self._spent) / self._share), LONGEST))
            self._lost = self._spent = 0.0
            self._tried, self._share = 0, max(self._share * FALL, LEAST_SHARE)
        elif self._spent < -GRANT:  # it pays
            self._share = SHARE
