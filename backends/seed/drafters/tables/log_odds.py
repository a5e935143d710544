"""What claimed probabilities are worth: learnt online, before the engine sees them."""

from __future__ import annotations

import math


class LogOddsCalibration:
    """How often claims came true, by the log-odds claimed: bins half a nat wide, interpolated."""

    BINS, PER_NAT = 33, 2  # from -8 to +8 nats
    MEMORY = 512  # then older claims fade: the next search may be unlike this one

    def __init__(self, prior: int = 32) -> None:
        """``prior`` claims of each bin are taken to have come true as often as they said."""
        self.rate = [1 / (1 + math.exp((self.BINS // 2 - i) / self.PER_NAT)) for i in range(self.BINS)]
        self.claims = [prior] * self.BINS

    @classmethod
    def place(cls, chance: float) -> float:
        """Where between the bins a claimed probability lies."""
        chance = min(max(chance, 5e-4), 1 - 5e-4)  # +-7.6 nats
        return math.log(chance / (1 - chance)) * cls.PER_NAT + cls.BINS // 2

    def claim(self, place: float) -> float:
        """How often such a claim comes true."""
        i = int(place)
        return self.rate[i] + (self.rate[i + 1] - self.rate[i]) * (place - i)

    def learn(self, place: float, came_true: bool) -> None:
        """Count one claim, in the nearest bin."""
        i = round(place)
        self.claims[i] = min(self.claims[i] + 1, self.MEMORY)
        self.rate[i] += (came_true - self.rate[i]) / self.claims[i]
