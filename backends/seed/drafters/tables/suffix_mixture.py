"""The learned mixture of what the longest matches of a text predict, see :mod:`.suffix`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from .best_first import contest_threshold
from .gumbel import Noise
from .ranked_candidates import RankCalibration, RankedCandidates

CANDIDATES = 2
"""Tokens of one guess."""
RATE = 0.02
"""Learning rate of the weights."""
LOUDEST = 4.0
"""Upper bound of the noise as an input."""
MEMORY = 255
"""Outcomes after which older ones of the same kind of prediction fade."""
PRIOR = 4
"""Weight of the frequency in a prediction's own counts, in outcomes."""

LENGTH = [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9, *[10] * 8, *[11] * 8]
"""Class of a match by its tokens; longer ones are of the last class."""
TOTAL = [0, 1, 2, 3, 4, 4, 5, 5, 5]
"""Class of a count by its value; higher ones are of the class after."""
LENGTHS, TOTALS, SHARES = 13, 7, 9
"""Classes of lengths, of counts, and of a token's share in a count."""

Counts = dict[int, int]
"""How often each token followed."""


class Level(NamedTuple):
    """A suffix of a text that occurs elsewhere."""

    length: int
    """Tokens."""
    counts: Counts
    total: int
    """Of ``counts``, 1 at least."""


Scored = list[tuple[float, int, list[float], list[float], list[int]]]
"""Candidates: score, token, inputs, their weights, kinds of the levels' predictions."""


class SuffixGuess(RankedCandidates):
    """Candidates for the next token of one text, the likeliest first."""

    __slots__ = ("children", "evidence", "length", "state")

    def __init__(self, state: int, length: int) -> None:
        super().__init__()
        self.state, self.length = state, length
        """The match and its tokens."""
        self.evidence: list[tuple[list[float], list[float], list[int]]] = []
        """Per candidate the inputs, their weights, and the kinds of the levels' predictions."""
        self.children: dict[int, SuffixGuess] = {}
        """Guesses after each candidate, made while drafting, to be compared with committed tokens."""


class SuffixMixture:
    """Learned frequencies and weights; greedy sequences share one, sampled sequences another."""

    def __init__(self) -> None:
        kinds = LENGTHS * TOTALS * SHARES
        self.rate = [0.0] * kinds
        self.seen = [0] * kinds
        """Of each kind of prediction its outcomes; 0 until the first guess."""
        self.odds = [0.0] * kinds
        """Log-odds of ``rate``."""
        self._calibration = RankCalibration()
        self._weights: dict[tuple[int, int, int], list[float]] = {}

    def _kind(self, length: int, count: int, total: int) -> int:
        """The kind of a prediction: so many tokens, which one token followed ``count`` times of ``total``."""
        place = LENGTH[length] if length < len(LENGTH) else LENGTHS - 1
        place = place * TOTALS + (TOTAL[total] if total < len(TOTAL) else TOTALS - 1)
        place = place * SHARES + count * (SHARES - 1) // total
        if not self.seen[place]:
            self.seen[place] = PRIOR
            self._set(place, (count + 0.3) / (total + 1.0))
        return place

    def _weights_of(self, length: int, levels: int, rank: int) -> list[float]:
        """Of bias, noise and levels, for a candidate of a rank."""
        key = (LENGTH[length] if length < 12 else 9, levels, rank)
        weights = self._weights.get(key)
        if weights is None:
            weights = self._weights[key] = [0.0, 0.3, *(0.6, 0.4, 0.2)[:levels]]
        return weights

    def fill(self, guess: SuffixGuess, levels: Sequence[Level], noise: Noise | None, position: int) -> None:
        """Find the candidates for ``position`` of the generated tokens."""
        longest = levels[0].length
        scored: Scored = []
        for rank, token in enumerate(_candidates(levels)):
            kinds = [self._kind(length, counts.get(token, 0), total) for length, counts, total in levels]
            weights = self._weights_of(longest, len(levels), rank)
            inputs = [1.0, 0.0, *[self.odds[kind] for kind in kinds]]
            scored.append((sum(map(mul, weights, inputs)), token, inputs, weights, kinds))
        if noise is not None:
            _add_noise(scored, noise, position)
        if len(scored) > 1:
            scored.sort(reverse=True)
        self._calibration.rank(guess, [entry[:2] for entry in scored])
        guess.evidence = [entry[2:] for entry in scored]

    def learn(self, guess: SuffixGuess, token: int) -> None:
        """Update the frequencies and take one gradient step by the token that came."""
        slopes = self._calibration.learn(guess, token)
        for candidate, slope, (inputs, weights, kinds) in zip(guess.tokens, slopes, guess.evidence, strict=True):
            for j, value in enumerate(inputs):
                weights[j] += RATE * slope * value
            for place in kinds:
                seen = self.seen[place] = min(self.seen[place] + 1, MEMORY)
                self._set(place, self.rate[place] + ((candidate == token) - self.rate[place]) / seen)

    def _set(self, place: int, rate: float) -> None:
        self.rate[place] = rate
        self.odds[place] = math.log((rate + 0.003) / (1.003 - rate))


def _candidates(levels: Sequence[Level]) -> list[int]:
    """The usual tokens of the longest levels, then the second of a level."""
    candidates: list[int] = []
    for _, counts, _ in levels:
        best = next(iter(counts)) if len(counts) == 1 else max(counts, key=counts.__getitem__)
        if best not in candidates:
            candidates.append(best)
            if len(candidates) == CANDIDATES:
                return candidates
    for _, counts, _ in levels:
        if len(counts) > 1:
            others = [token for token in counts if token not in candidates]
            candidates.append(max(others, key=counts.__getitem__))
            break
    return candidates


def _add_noise(scored: Scored, noise: Noise, position: int) -> None:
    """Add the noise to the scores of the candidates that may win by it, "something else" having the score 0."""
    threshold = contest_threshold([entry[0] for entry in scored], 0.0)
    if threshold is None:
        return
    for i, (score, token, inputs, weights, kinds) in enumerate(scored):
        if score > threshold:
            inputs[1] = min(noise(position, token) - Noise.MEAN, LOUDEST)
            scored[i] = (score + weights[1] * inputs[1], token, inputs, weights, kinds)
