"""Online calibration of probabilities, before the engine corrects them by acceptance."""

from __future__ import annotations

import math


class LogOddsCalibration:
    """Observed frequency by log-odds of the predicted probability: bins half a nat wide, interpolated."""

    BINS, PER_NAT = 33, 2  # from -8 to +8 nats
    MEMORY = 512  # outcomes per bin after which older ones fade: the next search may be unlike this one

    def __init__(self, prior: int = 32) -> None:
        """``prior``: weight of the predicted probability in each bin, in outcomes."""
        self.rate = [1 / (1 + math.exp((self.BINS // 2 - i) / self.PER_NAT)) for i in range(self.BINS)]
        self.outcomes = [prior] * self.BINS

    @classmethod
    def place(cls, chance: float) -> float:
        """The place of a predicted probability between the bins."""
        chance = min(max(chance, 5e-4), 1 - 5e-4)  # +-7.6 nats
        return math.log(chance / (1 - chance)) * cls.PER_NAT + cls.BINS // 2

    def confidence(self, place: float) -> float:
        """The calibrated probability of a prediction at this place."""
        i = int(place)
        return self.rate[i] + (self.rate[i + 1] - self.rate[i]) * (place - i)

    def learn(self, place: float, correct: bool) -> None:
        """Count one outcome, in the nearest bin."""
        i = round(place)
        self.outcomes[i] = min(self.outcomes[i] + 1, self.MEMORY)
        self.rate[i] += (correct - self.rate[i]) / self.outcomes[i]
