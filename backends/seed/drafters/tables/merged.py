"""Drafts of two tables at once: for every node the counts of n-grams and the longest match, weighed together.

On short texts that nothing has come before, :mod:`.ngram` predicts better; where a text goes on as an earlier one did,
:mod:`.suffix` does. How much each of them counts is learned for each node, not for each sequence: a logistic mixture
(Mahoney, 2005) of their calibrated probabilities, with weights by the length of the match and by which of the two
have the candidate. A candidate that one table lacks is weighed by the other alone, so a tree may take any branch from
either. The result is calibrated again by what came.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...records import Draft, SequenceState
from .best_first import BestFirstDrafter, best_first
from .gumbel import noise_of
from .ngram import NgramDrafter
from .ngram_mixture import ORDER, WeightedGuess
from .ranked_candidates import RankCalibration, RankedCandidates
from .suffix import Match, SuffixDrafter
from .suffix_mixture import SuffixGuess

RATE = 0.02
"""Learning rate of the weights."""
LEAST = 5e-4
"""Probabilities stay this far from 0 and 1."""
BOTH, NGRAM, SUFFIX = 0, 1, 2
"""Which tables have a candidate."""
START = {BOTH: (0.0, 0.6, 0.6), NGRAM: (-0.3, 0.9, 0.0), SUFFIX: (-0.3, 0.0, 0.9)}
"""Initial weights: bias, log-odds of the n-grams' probability and of the match's."""
SHORT = 3
"""Tokens of a match up to which the n-grams alone are used, as they hold the same evidence."""
LONG, SURE = 8, 0.9
"""Tokens and probability of a match from which on it alone is used, which saves time."""
LENGTHS = (2, 4, 6, 8, 16)
"""Bounds of the classes of matches by their tokens."""


class MergedGuess(RankedCandidates):
    """Candidates for the next token of one text, the likeliest first."""

    __slots__ = ("children", "inputs", "match", "ngram", "suffix", "text", "weights")

    def __init__(self, text: str, match: Match) -> None:
        super().__init__()
        self.text, self.match = text, match
        self.ngram: WeightedGuess | None = None
        self.suffix: SuffixGuess | None = None
        """The guess of either table, where it is used."""
        self.inputs: list[tuple[float, float]] = []
        """Per candidate the log-odds of either table."""
        self.weights: list[list[float]] = []
        self.children: dict[int, MergedGuess] = {}


class _Merging:
    """Learned weights and calibration; greedy sequences share one, sampled sequences another."""

    def __init__(self) -> None:
        self._calibration = RankCalibration()
        self._weights = [[list(START[kind]) for kind in (BOTH, NGRAM, SUFFIX)] for _ in range(len(LENGTHS) + 1)]

    def fill(self, guess: MergedGuess) -> None:
        """Set the candidates of both tables."""
        own = self._weights[sum(guess.match[1] >= bound for bound in LENGTHS)]
        ngram, suffix = guess.ngram, guess.suffix
        others = {} if suffix is None else dict(zip(suffix.tokens, suffix.confidences, strict=True))
        scored: list[tuple[float, int, tuple[float, float], list[float]]] = []
        for token, confidence in () if ngram is None else zip(ngram.tokens, ngram.confidences, strict=True):
            other = others.pop(token, None)
            weights = own[NGRAM if other is None else BOTH]
            inputs = (_log_odds(confidence), 0.0 if other is None else _log_odds(other))
            scored.append((weights[0] + weights[1] * inputs[0] + weights[2] * inputs[1], token, inputs, weights))
        weights = own[SUFFIX]
        for token, other in others.items():
            inputs = (0.0, _log_odds(other))
            scored.append((weights[0] + weights[2] * inputs[1], token, inputs, weights))
        scored.sort(reverse=True)
        self._calibration.rank(guess, [entry[:2] for entry in scored])
        guess.inputs = [entry[2] for entry in scored]
        guess.weights = [entry[3] for entry in scored]

    def learn(self, guess: MergedGuess, token: int) -> None:
        """Update the calibration and take one gradient step by the token that came."""
        slopes = self._calibration.learn(guess, token)
        for slope, inputs, weights in zip(slopes, guess.inputs, guess.weights, strict=True):
            step = RATE * slope
            weights[0] += step
            weights[1] += step * inputs[0]
            weights[2] += step * inputs[1]


class MergedDrafter(BestFirstDrafter):
    """Drafts from n-gram tables and a suffix automaton; lives as long as its engine."""

    name = "merged"

    def __init__(self) -> None:
        self._ngram, self._suffix = NgramDrafter(), SuffixDrafter()
        self._greedy, self._sampled = _Merging(), _Merging()
        self._guesses: dict[SequenceState, MergedGuess | None] = {}
        """Of every live sequence the guess for its next token, where it is made."""

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a new sequence whole; compare every further token with its guess, then learn it."""
        if row not in self._guesses:
            noise = noise_of(row)  # one for both, as it keeps its values
            self._ngram.join(row, noise)
            self._suffix.join(row, noise)
            self._suffix.renew(row, len(row.tokens))
            self._guesses[row] = None
            return
        merging, guess = self._merging(row), self._guesses[row]
        for i in range(start, len(row.tokens)):
            token = row.tokens[i]
            if guess is None:
                guess = self._root(row, i - row.prompt)
            merging.learn(guess, token)
            self._ngram.advance(row, token, guess.ngram)
            self._suffix.advance(row, token, guess.suffix)
            guess = guess.children.get(token)
        self._suffix.renew(row, start)
        self._guesses[row] = None

    def warm(self, tokens: Sequence[int]) -> bool:
        """See :class:`Drafter`; both learn."""
        return self._ngram.warm(tokens) and self._suffix.warm(tokens)

    def forget(self, row: SequenceState) -> None:
        """Drop the sequence; what all sequences share stays."""
        self._guesses.pop(row, None)
        self._ngram.forget(row)
        self._suffix.forget(row)

    def close(self) -> None:
        """Drop all evidence."""
        self._guesses.clear()
        self._ngram.close()
        self._suffix.close()

    def _merging(self, row: SequenceState) -> _Merging:
        return self._sampled if row.sampling.temperature > 0 else self._greedy

    def _root(self, row: SequenceState, position: int) -> MergedGuess:
        return self._guess(row, self._ngram.text(row), self._suffix.match(row), position)

    def _guess(self, row: SequenceState, text: str, match: Match, position: int) -> MergedGuess:
        """Candidates for ``position`` of the generated tokens, after a text and its match."""
        guess, length = MergedGuess(text, match), match[1]
        if length > SHORT:
            guess.suffix = self._suffix.guess(row, match, position)
        if guess.suffix is None or length < LONG or guess.suffix.confidences[0] < SURE:
            guess.ngram = self._ngram.guess(row, text, position)
        self._merging(row).fill(guess)
        return guess

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """See :class:`BestFirstDrafter`; empty for a sequence that was not observed."""
        if row not in self._guesses:
            return Draft()

        def after(guess: MergedGuess, token: int, level: int) -> MergedGuess:
            text, match = guess.text[1 - ORDER :] + chr(token), self._suffix.further(guess.match, token)
            following = guess.children[token] = self._guess(row, text, match, row.position + level)
            return following

        root = self._guesses[row] = self._root(row, row.position)
        return best_first(root, after, floor, depth)


def _log_odds(chance: float) -> float:
    chance = min(max(chance, LEAST), 1 - LEAST)
    return math.log(chance / (1 - chance))
