"""Shared by tables of the target's own logits: guesses with calibrated confidences.

A table gives candidates for the next token of a text, with probabilities. At a temperature above 0 coupled verification
emits argmax(log p + g) with a noise g that is known (Daliri et al., arXiv 2408.07978), so candidates are ranked by
log q + g, and their realised scores give their confidences. Elsewhere the likeliest come first. All are chosen, not
drawn, so under rejection each is a point mass. Confidences are compared with every committed token, drafted or not.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...records import Draft, SequenceState
from ..base import VerifiedDraft
from .best_first import BestFirstDrafter, best_first, contest_threshold
from .gumbel import Noise
from .log_odds import LogOddsCalibration

SHARPNESS = 0.6
"""Scale at which gaps between realised scores log q + g give a confidence, as for draft models."""
CHILDREN = 4
"""Candidates of one guess that can be drafted."""
LEAST_OTHER = 1e-3
"""A table leaves at least this probability to tokens that it does not hold."""
PRIOR = 8
"""Weight of an uncalibrated probability, in outcomes; lower than for mixtures, whose probabilities are better."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a table holds for one text."""

    kind: int
    """Guesses of one kind are calibrated together."""
    tokens: Sequence[int]
    """Candidates that differ, the likeliest first."""
    chances: Sequence[float]
    """For each its positive probability at the sequence's temperature, 1 in all at most."""


NOTHING = Known(0, (), ())


class _CalibrationPair:
    """Calibrations of the best candidate of a guess and of the others."""

    def __init__(self) -> None:
        self.first, self.rest = LogOddsCalibration(PRIOR), LogOddsCalibration(PRIOR)

    def confidences(self, places: Sequence[float]) -> list[float]:
        """The confidences of candidates at these places, 1 in all at most."""
        confidences: list[float] = []
        rest = 1.0
        for place in places:
            confidences.append(min((self.rest if confidences else self.first).confidence(place), rest))
            rest = max(rest - confidences[-1], 0.0)
        return confidences

    def learn(self, places: Sequence[float], hits: Sequence[bool]) -> None:
        """Record which of the candidates came."""
        for i, (place, hit) in enumerate(zip(places, hits, strict=True)):
            (self.rest if i else self.first).learn(place, hit)


@dataclass(slots=True)
class _Guess:
    """Candidates for the next token of one text, the best first."""

    text: str
    """The last ``order`` tokens before it."""
    tokens: list[int]
    places: list[float]
    """Uncalibrated probabilities, as places in a calibration."""
    confidences: list[float]
    pair: _CalibrationPair


@dataclass(slots=True)
class _SequenceGuesses:
    """The guesses for one live sequence."""

    noise: Noise
    guesses: dict[tuple[int, str], _Guess] = field(default_factory=dict)
    """Of its last draft, by position and context."""


class TableDrafter(BestFirstDrafter):
    """Drafts from a table that maps the last ``order`` tokens to candidates; lives as long as its engine.

    ``coupled``: under coupled verification, where the target's noise decides sampled texts.
    """

    order: int
    """Tokens of the longest context."""

    def __init__(self, *, coupled: bool) -> None:
        self.coupled = coupled
        self._pairs: dict[tuple[bool, int], _CalibrationPair] = {}
        """By whether sequences are sampled, and kind."""
        self._states: dict[SequenceState, _SequenceGuesses] = {}

    @abstractmethod
    def look_up(self, text: str, temperature: float) -> Known:
        """Candidates after a text whose last ``order`` tokens are these characters."""

    @abstractmethod
    def store(self, verified: Sequence[VerifiedDraft]) -> None:
        """Store the target's next tokens after every verified token, accepted or not."""

    def compare(self, text: str, temperature: float, token: int) -> None:
        """``token`` came after a text; called before :meth:`store` gets the target's logits there."""

    def learn(self, verified: Sequence[VerifiedDraft]) -> None:
        """Compare committed tokens with their guesses, then store the logits."""
        for each in verified:
            row, state, text = each.row, self._state(each.row), self.tail(each.row)
            temperature = row.sampling.temperature
            for position, token in enumerate(each.tokens, start=row.position):
                guess = state.guesses.get((position, text)) or self._guess(state, row, text, position)
                guess.pair.learn(guess.places, [token == candidate for candidate in guess.tokens])
                self.compare(text, temperature, token)
                text = (text + chr(token))[-self.order :]
            state.guesses.clear()
        self.store(verified)

    def forget(self, row: SequenceState) -> None:
        """Drop its guesses; the table stays."""
        self._states.pop(row, None)

    def close(self) -> None:
        """Drop all evidence."""
        self._pairs.clear()
        self._states.clear()

    def tail(self, row: SequenceState) -> str:
        """The sequence's last ``order`` tokens as characters: Python cuts and hashes a str faster than a tuple."""
        return "".join(map(chr, row.tokens[-self.order :]))

    def _state(self, row: SequenceState) -> _SequenceGuesses:
        state = self._states.get(row)
        if state is None:
            state = self._states[row] = _SequenceGuesses(Noise(row.stream))
        return state

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """See :class:`BestFirstDrafter`."""
        state = self._state(row)
        guesses = state.guesses
        guesses.clear()

        def guess_at(text: str, level: int) -> _Guess:
            guess = guesses[row.position + level, text] = self._guess(state, row, text, row.position + level)
            return guess

        def after(guess: _Guess, token: int, level: int) -> _Guess:
            return guess_at((guess.text + chr(token))[-self.order :], level)

        return best_first(guess_at(self.tail(row), 0), after, floor, depth)

    def _guess(self, state: _SequenceGuesses, row: SequenceState, text: str, position: int) -> _Guess:
        """Candidates for ``position`` of the generated tokens, after ``text``."""
        temperature = row.sampling.temperature
        known = self.look_up(text, temperature)
        pair = self._pairs.get((temperature > 0, known.kind))
        if pair is None:
            pair = self._pairs[temperature > 0, known.kind] = _CalibrationPair()
        if temperature and self.coupled and known.tokens:
            ranked = add_gumbel(known, state.noise, position)[:CHILDREN]
        else:
            ranked = list(zip(known.chances, known.tokens, strict=True))[:CHILDREN]
        places = [LogOddsCalibration.place(chance) for chance, _ in ranked]
        return _Guess(text, [token for _, token in ranked], places, pair.confidences(places), pair)


def add_gumbel(known: Known, noise: Noise, position: int) -> list[tuple[float, int]]:
    """Candidates with the estimated probability that the target emits each of them under its noise, the best first.

    The noise is left out where no two may win, the tokens that the table does not hold counting as one.
    """
    logs = [math.log(chance) for chance in known.chances]
    other = math.log(max(1 - sum(known.chances), LEAST_OTHER))
    threshold = contest_threshold(logs, other)
    if threshold is None:
        return list(zip(known.chances, known.tokens, strict=True))
    scores = [
        log + (noise(position, token) if log > threshold else Noise.MEAN)
        for log, token in zip(logs, known.tokens, strict=True)
    ]
    most = max(scores)
    weights = [math.exp((score - most) / SHARPNESS) for score in scores]
    total = sum(weights) + math.exp((other + Noise.MEAN - most) / SHARPNESS)
    return sorted(((weight / total, token) for weight, token in zip(weights, known.tokens, strict=True)), reverse=True)
