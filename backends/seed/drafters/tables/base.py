"""What tables of the target's own logits share: guesses with calibrated claims, and draft trees grown best-first.

A table says which tokens may follow a text, and how likely each is. At a temperature above 0 coupled verification emits
argmax(log p + g) with a noise g that is known (Daliri et al., arXiv 2408.07978), so candidates are ranked by
log q + g, and their realised scores say how sure they are. Elsewhere the likeliest come first. All are chosen, not
drawn, so under rejection each is a point mass.

The papers verify a template of 80 nodes, whatever the table says. Here the most valuable node grows next, down to the
value that still pays (OPT-Tree, Wang et al., arXiv 2406.17276), and the engine's budget takes the best of all branches.
Claims are compared with every token that is committed, drafted or not.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from ...records import Draft, SequenceState
from ..base import Drafter, VerifiedDraft
from .gumbel import Noise
from .log_odds import LogOddsCalibration

SHARPNESS = 0.6
"""Scale at which gaps between realised scores log q + g tell how sure a token is, as for draft models."""
CONTEST = 3.0
"""A candidate whose log q is this far behind the best is taken to have mean noise: the true one seldom lets it win, and
takes most of the time of a guess."""
CHILDREN = 4
"""Candidates of one guess that can be drafted."""
LEAST_OTHER = 1e-3
"""A table leaves at least this probability to tokens that it does not hold."""
PRIOR = 8
"""Claims of a kind and strength that are taken at their word; what tables claim is cruder than what mixtures do."""
LEAST_FLOOR = 0.02
"""A lower floor counts as this one."""
BREADTH = 2
"""Mean nodes a level of the largest draft."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a table holds for one text."""

    kind: int
    """Which guesses are calibrated together with this one."""
    tokens: Sequence[int]
    """Candidates that differ, the likeliest first."""
    chances: Sequence[float]
    """Of each its positive probability at the row's temperature, 1 in all at most."""


NOTHING = Known(0, (), ())


class _Pair:
    """Calibrations of the best candidate of a guess and of the others."""

    def __init__(self) -> None:
        self.first, self.rest = LogOddsCalibration(PRIOR), LogOddsCalibration(PRIOR)

    def claims(self, places: Sequence[float]) -> list[float]:
        """Of candidates at these places, 1 in all at most."""
        claims: list[float] = []
        left = 1.0
        for place in places:
            claims.append(min((self.rest if claims else self.first).claim(place), left))
            left = max(left - claims[-1], 0.0)
        return claims

    def learn(self, places: Sequence[float], hits: Sequence[bool]) -> None:
        """Which of them came."""
        for i, (place, hit) in enumerate(zip(places, hits, strict=True)):
            (self.rest if i else self.first).learn(place, hit)


@dataclass(slots=True)
class _Guess:
    """Candidates for one place of one text, the best first, with their claims."""

    tokens: list[int]
    places: list[float]
    """Uncalibrated claims, as places in a calibration."""
    claims: list[float]
    pair: _Pair


@dataclass(slots=True)
class _Branch:
    """What is kept of one live row."""

    noise: Noise
    guesses: dict[tuple[int, str], _Guess] = field(default_factory=dict)
    """Those of its last draft, by position and context."""


class TableDrafter(Drafter):
    """Drafts from a table that maps the last ``order`` tokens to candidates; lives as long as its engine.

    ``coupled`` says that the target's noise decides sampled texts.
    """

    order: int
    """Tokens of the longest context."""

    def __init__(self, *, coupled: bool) -> None:
        self.coupled = coupled
        self._pairs: dict[tuple[bool, int], _Pair] = {}
        """By whether rows are sampled, and kind."""
        self._branches: dict[SequenceState, _Branch] = {}

    @abstractmethod
    def look_up(self, text: str, temperature: float) -> Known:
        """What may follow a text whose last ``order`` tokens are these characters."""

    @abstractmethod
    def store(self, told: Sequence[VerifiedDraft]) -> None:
        """Take in what the target said after every verified token, accepted or not."""

    def compare(self, text: str, temperature: float, token: int) -> None:
        """``token`` came after a text; called before :meth:`store` takes in what the target said there."""

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """Per row the candidates whose paths are claimed to be accepted with probability ``floor`` or more."""
        if floor >= 1:
            return [Draft() for _ in rows]
        return [self._draft(row, max(floor, LEAST_FLOOR), min(depth, row.room)) for row in rows]

    def learn(self, told: Sequence[VerifiedDraft]) -> None:
        """Compare what comes now with its guesses, then take in the logits."""
        for verified in told:
            row, branch, text = verified.row, self._branch(verified.row), self.tail(verified.row)
            temperature = row.sampling.temperature
            for position, token in enumerate(verified.tokens, start=row.position):
                guess = branch.guesses.get((position, text)) or self._guess(branch, row, text, position)
                guess.pair.learn(guess.places, [token == candidate for candidate in guess.tokens])
                self.compare(text, temperature, token)
                text = (text + chr(token))[-self.order :]
            branch.guesses = {}
        self.store(told)

    def forget(self, row: SequenceState) -> None:
        """What others can use of it stays."""
        self._branches.pop(row, None)

    def close(self) -> None:
        """Drop all evidence."""
        self._pairs.clear()
        self._branches.clear()

    def tail(self, row: SequenceState) -> str:
        """The row's last ``order`` tokens as characters: Python cuts and hashes a str faster than a tuple."""
        return "".join(map(chr, row.tokens[-self.order :]))

    def _branch(self, row: SequenceState) -> _Branch:
        branch = self._branches.get(row)
        if branch is None:
            branch = self._branches[row] = _Branch(Noise(row.stream))
        return branch

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """What reaches the floor, best first, so that the first nodes of a draft are the best draft of that size."""
        draft = Draft()
        if depth < 1:
            return draft
        branch, order = self._branch(row), count()
        branch.guesses = {}
        open_: list[tuple[float, int, int, float, int, int, str]] = []
        text, node, reached, level = self.tail(row), -1, 1.0, 0
        while True:
            if level < depth:
                guess = self._guess(branch, row, text, row.position + level)
                branch.guesses[row.position + level, text] = guess
                for token, claim in zip(guess.tokens, guess.claims, strict=True):
                    if reached * claim >= floor:
                        child = (text + chr(token))[-self.order :]
                        heappush(open_, (-reached * claim, next(order), token, claim, node, level + 1, child))
            if not open_ or len(draft) == BREADTH * depth:
                return draft
            minus, _, token, claim, parent, level, text = heappop(open_)
            draft.tokens.append(token)
            draft.parents.append(parent)
            draft.confidence.append(claim)
            node, reached = len(draft) - 1, -minus

    def _guess(self, branch: _Branch, row: SequenceState, text: str, position: int) -> _Guess:
        """What may stand at ``position`` of the generated tokens, after ``text``."""
        temperature = row.sampling.temperature
        known = self.look_up(text, temperature)
        pair = self._pairs.get((temperature > 0, known.kind))
        if pair is None:
            pair = self._pairs[temperature > 0, known.kind] = _Pair()
        if temperature and self.coupled and known.tokens:
            ranked = hear(known, branch.noise, position)[:CHILDREN]
        else:
            ranked = list(zip(known.chances, known.tokens, strict=True))[:CHILDREN]
        places = [LogOddsCalibration.place(chance) for chance, _ in ranked]
        return _Guess([token for _, token in ranked], places, pair.claims(places), pair)


def hear(known: Known, noise: Noise, position: int) -> list[tuple[float, int]]:
    """Candidates with the claimed probability that the target takes each of them under its noise, the best first.

    Nothing is heard where no two are in contention, the tokens that the table does not hold counting as one.
    """
    logs = [math.log(chance) for chance in known.chances]
    other = math.log(max(1 - sum(known.chances), LEAST_OTHER))
    near = max(logs[0], other) - CONTEST
    if sum(log > near for log in logs) + (other > near) < 2:
        return list(zip(known.chances, known.tokens, strict=True))
    scores = [
        log + (noise(position, token) if log > near else Noise.MEAN)
        for log, token in zip(logs, known.tokens, strict=True)
    ]
    most = max(scores)
    weights = [math.exp((score - most) / SHARPNESS) for score in scores]
    total = sum(weights) + math.exp((other + Noise.MEAN - most) / SHARPNESS)
    return sorted(((weight / total, token) for weight, token in zip(weights, known.tokens, strict=True)), reverse=True)
