"""Candidates for the next token, with probabilities that are calibrated by rank."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .log_odds import LogOddsCalibration

LIMIT = 7.6
"""Scores stay within +-LIMIT."""


class RankedCandidates:
    """Candidates for the next token of one text, the likeliest first."""

    __slots__ = ("chances", "confidences", "places", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.chances: list[float] = []
        """Per candidate, its probability in the mixture."""
        self.places: list[float] = []
        """The same as places in a calibration."""
        self.confidences: list[float] = []
        """Calibrated probabilities, 1 in all at most."""


class RankCalibration:
    """One calibration for the likeliest candidates, another for all that rank below."""

    def __init__(self) -> None:
        self._first, self._rest = LogOddsCalibration(), LogOddsCalibration()

    def rank(self, guess: RankedCandidates, scored: Iterable[tuple[float, int]]) -> None:
        """Enter tokens by their scores in log-odds, the highest first."""
        calibration, rest = self._first, 1.0
        for unbounded, token in scored:
            score = min(max(unbounded, -LIMIT), LIMIT)
            place = score * LogOddsCalibration.PER_NAT + LogOddsCalibration.BINS // 2
            confidence = min(calibration.confidence(place), rest)
            guess.tokens.append(token)
            guess.chances.append(1 / (1 + math.exp(-score)))
            guess.places.append(place)
            guess.confidences.append(confidence)
            calibration = self._rest
            rest -= confidence

    def learn(self, guess: RankedCandidates, token: int) -> list[float]:
        """Count the token that came; of every candidate the derivative of the log-likelihood by its score."""
        calibration, slopes = self._first, []
        for candidate, place, chance in zip(guess.tokens, guess.places, guess.chances, strict=True):
            hit = candidate == token
            calibration.learn(place, hit)
            calibration = self._rest
            slopes.append(hit - chance)
        return slopes
