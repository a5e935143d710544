"""The learned mixture of what the contexts of a text predict, see :mod:`.ngram`."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp
from operator import mul

from .log_odds import LogOddsCalibration

ORDER = 6
"""Tokens of the longest context. On game-of-24 steps 5 predict worse, 8 no better for a third more work."""
RATE = 0.015
"""Learning rate of the weights; 0.01 to 0.02 predict alike, 0.03 a little worse."""
LIMIT = 8.0
"""Scores stay within +-LIMIT: e**-8 is far below any floor of use."""

Scored = list[tuple[float, int, list[float]]]
"""Candidates: score, token, and the evidence that the weights multiply."""


class WeightedGuess:
    """Candidates for the next token of one text, the likeliest first."""

    __slots__ = ("chances", "children", "confidences", "evidence", "places", "text", "tokens", "weights")

    def __init__(self, text: str, weights: list[float]) -> None:
        self.text = text
        self.weights = weights
        self.tokens: list[int] = []
        self.evidence: list[list[float]] = []
        """Per candidate, what the weights multiply."""
        self.chances: list[float] = []
        """Per candidate, its probability in the mixture."""
        self.places: list[float] = []
        """The same as places in a calibration."""
        self.confidences: list[float] = []
        """Per candidate, the calibrated probability."""
        self.children: dict[int, WeightedGuess] = {}
        """Guesses after each candidate, made while drafting, to be compared with committed tokens."""


class NgramMixture:
    """Learned weights and calibration; greedy sequences share one, sampled sequences another."""

    def __init__(self) -> None:
        self.weights = [self._start(n) for n in range(ORDER + 1)]
        """[n], n = tokens of the longest known context: bias, weight of the noise, of the contexts of 1..n tokens, of
        the sequence's own evidence."""
        self.first, self.rest = LogOddsCalibration(), LogOddsCalibration()  # of the likeliest candidate, of the others

    @staticmethod
    def _start(n: int) -> list[float]:
        """Initial weights: the longest context counts most, one of a single token little.

        They are near the weights learned from game-of-24 steps, from maths and from stories.
        """
        bias = (-1.0, -1.0, -0.3)[n] if n < 3 else 0.0
        return [bias, 0.3, *[0.1, 0.1, 0.1, 0.1, 0.25, 0.6][ORDER - n :], 0.3]

    def fill(self, guess: WeightedGuess, scored: Scored) -> None:
        """Set the candidates of a guess, with probabilities and confidences."""
        if len(scored) > 1:
            scored.sort(reverse=True)
        powers = [exp(min(max(entry[0], -LIMIT), LIMIT)) for entry in scored]
        total = 1 + plain_sum(powers)  # 1 for something else, of score 0
        calibration, rest = self.first, 1.0
        for (_, token, evidence), power in zip(scored, powers, strict=True):
            chance = power / total
            place = LogOddsCalibration.place(chance)
            confidence = min(calibration.confidence(place), rest)
            guess.tokens.append(token)
            guess.evidence.append(evidence)
            guess.chances.append(chance)
            guess.places.append(place)
            guess.confidences.append(confidence)
            if calibration is self.first:
                calibration, rest = self.rest, 1 - confidence

    def learn(self, guess: WeightedGuess, token: int) -> None:
        """Update the calibration by the token that came, and take one gradient step on the log-likelihood."""
        calibration, weights = self.first, guess.weights
        for i, candidate in enumerate(guess.tokens):
            hit = candidate == token
            calibration.learn(guess.places[i], hit)
            calibration = self.rest
            step = RATE * (hit - guess.chances[i])
            for j, value in enumerate(guess.evidence[i]):
                weights[j] += step * value


def plain_sum(values: Iterable[float]) -> float:
    """The sum from left to right, as C computes it; Python 3.12 and later round ``sum`` otherwise."""
    total = 0.0
    for value in values:
        total += value
    return total


def product_sum(weights: Iterable[float], evidence: Iterable[float]) -> float:
    """The sum of products, as far as both go."""
    return plain_sum(map(mul, weights, evidence))
