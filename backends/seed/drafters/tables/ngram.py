"""Guesses by counting: what followed the last few tokens before, in any branch of any search of this engine.

Prompt lookup (https://github.com/apoorvumang/prompt-lookup-decoding) with one table for all branches, as in Token
Recycling (Luo et al., arXiv 2408.08696) and STAND (arXiv 2506.04708). Those propose trees of a fixed shape; this
drafter says of every node how likely it is to be accepted and leaves out what cannot pay:

1. *Evidence.* Every context of one to six tokens remembers the tokens that came next; a branch also remembers what
   followed its own last token. A beginning that texts share counts once, not once a branch.
2. *Mixing.* The usual followers of the longest contexts are candidates. A candidate's score is a weighted sum of its
   log-odds in each context, and a softmax over the candidates and "something else" (score 0) gives probabilities. The
   weights are learned online by gradient steps on the log-likelihood, as in PAQ's logistic mixing (Mahoney, 2005).
3. *Coupling.* A sampled row's target emits argmax(log p + g) with a noise g that is known (Daliri et al., arXiv
   2408.07978). g is one more term of the score; how much to trust it is learned like the other weights, because counts
   are a poor image of p.
4. *LogOddsCalibration.* How often claims of a given strength came true corrects the next ones.

Mixing and calibration learn from every committed token, by first guessing it, whether or not it was drafted: nothing
must be drafted to find out whether drafting pays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from operator import mul

from ...records import Draft, SequenceState
from ..base import Drafter
from .gumbel import Noise
from .log_odds import LogOddsCalibration

ORDER = 6
"""Tokens of the longest context. On game-of-24 steps 5 predict worse, 8 no better for a third more work."""
WINDOW = 16
"""Followers that a context remembers, the latest; more of them predict no better."""
OWN_WINDOW = 8
"""The same for what a branch remembers of its own last token."""
TAIL = 256
"""The tokens at a prompt's end that are its branch's own, even where others share them; bounds the time to join."""
CANDIDATES = 2
"""Distinct followers looked for in the shared contexts, longest first; looking for more predicts no better."""
SMOOTHING = 0.8
"""Pseudo-counts for and against in a log-odds."""
RATE = 0.015
"""Learning rate of the weights; 0.01 to 0.02 predict alike, 0.03 a little worse."""
LIMIT = 8.0
"""Scores stay within +-LIMIT: e**-8 is far below any floor of use."""
CONTEST = 3.0
"""A candidate this far behind the best is taken to lose whatever its noise, which costs a third of a guess."""
LOUDEST = 4.0
"""Greater noise counts as this much (one value in 100 is greater), so that a freak moves no weight far."""
LEAST_FLOOR = 0.02
"""A lower floor counts as this one."""
BREADTH = 2
"""Mean nodes a level of the largest draft; trees that reach a floor of 0.1 are mostly smaller."""

ODDS = [[math.log((c + SMOOTHING) / (n - c + SMOOTHING)) for c in range(n + 1)] for n in range(WINDOW + 1)]
"""[n][c]: log-odds of a token that is c of n followers."""

Followers = tuple[int, ...]
"""Tokens that came after a context, the latest last. The garbage collector does not revisit tuples of ints."""


class _Guess:
    """What may follow one text: candidates, the likeliest first."""

    __slots__ = ("chances", "children", "claims", "evidence", "places", "tokens", "weights")

    def __init__(self, weights: list[float], scored: list[tuple[float, int, list[float]]]) -> None:
        scored.sort(reverse=True)
        powers = [math.exp(min(max(score, -LIMIT), LIMIT)) for score, _, _ in scored]
        total = 1 + sum(powers)  # 1 for something else, of score 0
        self.weights = weights
        self.tokens = [token for _, token, _ in scored]
        self.evidence = [evidence for _, _, evidence in scored]
        """Per candidate, what the weights multiply."""
        self.chances = [power / total for power in powers]
        """Per candidate, its probability in the mixture."""
        self.places = [LogOddsCalibration.place(chance) for chance in self.chances]
        """The same as places in a calibration."""
        self.claims: list[float] = []
        """Per candidate, the calibrated probability."""
        self.children: dict[int, _Guess] = {}
        """Guesses made further down while drafting, to be compared with what is committed."""


class _Mixture:
    """What is learned about guesses; greedy rows share one, sampled rows another."""

    def __init__(self) -> None:
        self.weights = [self._start(n) for n in range(ORDER + 1)]
        """[n], n = tokens of the longest known context: bias, weight of the noise, of the contexts of 1..n tokens, of
        the branch's own evidence."""
        self.first, self.rest = LogOddsCalibration(), LogOddsCalibration()  # of the likeliest candidate, of the others

    @staticmethod
    def _start(n: int) -> list[float]:
        """The longest context counts most, and one of a single token is doubted. Near what is learned in the end from
        game-of-24 steps, from maths and from stories.
        """
        bias = (-1.0, -1.0, -0.3)[n] if n < 3 else 0.0
        return [bias, 0.3, *[0.1, 0.1, 0.1, 0.1, 0.25, 0.6][ORDER - n :], 0.3]

    def claim(self, guess: _Guess) -> None:
        """Calibrate a guess."""
        for place in guess.places[:1]:
            guess.claims = [self.first.claim(place)]
        for place in guess.places[1:]:
            guess.claims.append(min(self.rest.claim(place), 1 - guess.claims[0]))

    def learn(self, guess: _Guess, token: int) -> None:
        """Compare a guess with what came: count its claims, and take one step up the log-likelihood."""
        calibration, weights = self.first, guess.weights
        for i, candidate in enumerate(guess.tokens):
            hit = candidate == token
            calibration.learn(guess.places[i], hit)
            calibration = self.rest
            step = RATE * (hit - guess.chances[i])
            for j, value in enumerate(guess.evidence[i]):
                weights[j] += step * value


class _Branch:
    """What is kept of one live row."""

    __slots__ = ("guess", "mixture", "noise", "own", "prefix", "text")

    def __init__(self, mixture: _Mixture, noise: Noise | None) -> None:
        self.mixture = mixture
        self.noise = noise
        self.text = ""
        """The last ORDER tokens, as characters: Python cuts and hashes a str faster than a tuple."""
        self.prefix = 0
        """Hash of all tokens."""
        self.own: dict[str, Followers] = {}
        """What followed each token in this branch."""
        self.guess: _Guess | None = None
        """Of the next token, if already made."""


class NgramDrafter(Drafter):
    """Drafts what followed before; lives as long as its engine.

    ``contexts`` bounds the memory: so many make a generation, about 190 bytes each, and two are held at most (50 MB).
    When one is full the one before it is dropped: what was not met again in that time is forgotten. The default fills
    after 22 000 tokens of text unlike any before, or more of ordinary text. A live row adds up to 50 kB.
    """

    name = "ngram"

    def __init__(self, contexts: int = 1 << 17) -> None:
        self.contexts = contexts
        self._new: dict[str, Followers] = {}
        self._old: dict[str, Followers] = {}
        self._new_prefixes: set[int] = set()
        self._old_prefixes: set[int] = set()
        self._greedy, self._sampled = _Mixture(), _Mixture()
        self._branches: dict[SequenceState, _Branch] = {}

    def __len__(self) -> int:
        """How many contexts are held."""
        return len(self._new) + len(self._old)

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """Per row, every candidate whose path is claimed to be accepted with probability ``floor`` or more."""
        if floor >= 1:
            return [Draft() for _ in rows]
        return [self._draft(row, max(floor, LEAST_FLOOR), min(depth, row.room)) for row in rows]

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a row that joins; compare every further token with its guess, then learn it."""
        branch = self._branches.get(row)
        if branch is None:
            branch = self._join(row)
            start = len(row.tokens)
        for i in range(start, len(row.tokens)):
            token = row.tokens[i]
            guess = branch.guess or self._guess(branch, branch.text, i - row.prompt)
            branch.mixture.learn(guess, token)
            branch.guess = guess.children.get(token)
            self._learn(branch, token, shared=True, own=True)

    def forget(self, row: SequenceState) -> None:
        """Drop the row's own evidence; what others can learn from it stays."""
        self._branches.pop(row, None)

    def close(self) -> None:
        """Drop all evidence."""
        for held in (self._new, self._old, self._new_prefixes, self._old_prefixes, self._branches):
            held.clear()

    def _join(self, row: SequenceState) -> _Branch:
        """Read a row as it joins: its prompt, and what it had before it was set aside for want of memory."""
        sampled = row.sampling.temperature > 0
        branch = _Branch(self._sampled, Noise(row.stream)) if sampled else _Branch(self._greedy, None)
        known = True  # while all of the text so far has begun another text
        for i, token in enumerate(row.tokens):
            if known:
                prefix = hash((branch.prefix, token))
                known = prefix in self._new_prefixes or prefix in self._old_prefixes
            self._learn(branch, token, shared=not known, own=i >= row.prompt - TAIL)
        self._branches[row] = branch
        return branch

    def _learn(self, branch: _Branch, token: int, shared: bool, own: bool) -> None:
        """Append a token to a branch's text, and to the followers of what it comes after."""
        text, new, old = branch.text, self._new, self._old
        if shared:
            for n in range(1, len(text) + 1):
                context = text[-n:]
                followers = new.get(context) or old.get(context) or ()
                new[context] = (*followers[1 - WINDOW :], token)
        if own and text:
            branch.own[text[-1]] = (*branch.own.get(text[-1], ())[1 - OWN_WINDOW :], token)
        branch.text = text[1 - ORDER :] + chr(token)
        branch.prefix = hash((branch.prefix, token))
        self._new_prefixes.add(branch.prefix)
        if len(new) >= self.contexts or len(self._new_prefixes) >= self.contexts:
            self._old, self._new = new, {}
            self._old_prefixes, self._new_prefixes = self._new_prefixes, set()

    def _guess(self, branch: _Branch, text: str, position: int) -> _Guess:
        """What may stand at ``position`` of the generated tokens, after ``text``."""
        new, old, found = self._new, self._old, []  # followers of the contexts of 1, 2 ... tokens
        for n in range(1, len(text) + 1):
            followers = new.get(text[-n:]) or old.get(text[-n:])
            if followers is None:
                break
            found.append(followers)
        weights = branch.mixture.weights[len(found)]
        candidates: dict[int, None] = {}
        for followers in reversed(found):
            candidates[followers[-1]] = None
            if followers.count(followers[-1]) < len(followers):
                ranked = sorted(dict.fromkeys(followers[::-1]), key=followers.count, reverse=True)  # ties: the latest
                candidates[ranked[0]] = candidates[ranked[1]] = None
            if len(candidates) >= CANDIDATES:
                break
        own = branch.own.get(text[-1:])
        if own is not None:
            candidates[own[-1]] = None
            found.append(own)
        odds = [(ODDS[len(followers)], followers) for followers in found]
        scored = []
        for token in candidates:
            evidence = [1.0, 0.0]
            evidence += [table[followers.count(token)] for table, followers in odds]
            scored.append((sum(map(mul, weights, evidence)), token, evidence))
        if branch.noise is not None:
            scored = _hear(scored, weights[1], branch.noise, position)
        guess = _Guess(weights, scored)
        branch.mixture.claim(guess)
        return guess

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """What reaches the floor, best first, so that the first nodes of a draft are the best draft of that size."""
        draft, branch = Draft(), self._branches.get(row)
        if branch is None or depth < 1:
            return draft
        guess = branch.guess = branch.guess or self._guess(branch, branch.text, row.position)
        text, node, reached, level, order = branch.text, -1, 1.0, 1, count()
        open_: list[tuple[float, int, int, float, int, int, _Guess, str]] = []
        while True:
            if level <= depth:
                for token, claim in zip(guess.tokens, guess.claims, strict=True):
                    if reached * claim >= floor:
                        heappush(open_, (-reached * claim, next(order), token, claim, node, level, guess, text))
            if not open_ or len(draft) == BREADTH * depth:
                return draft
            minus, _, token, claim, parent, level, guess, text = heappop(open_)
            draft.tokens.append(token)
            draft.parents.append(parent)
            draft.confidence.append(claim)
            node, reached, level = len(draft) - 1, -minus, level + 1
            if level <= depth:
                text = text[1 - ORDER :] + chr(token)
                child = guess.children.get(token)
                if child is None:
                    child = guess.children[token] = self._guess(branch, text, row.position + level - 1)
                guess = child


Scored = list[tuple[float, int, list[float]]]


def _hear(scored: Scored, weight: float, noise: Noise, position: int) -> Scored:
    """Add the noise to the scores of the candidates in contention, if there are any two, "something else" included."""
    near = max([0.0, *[score for score, _, _ in scored]]) - CONTEST
    if sum(score > near for score, _, _ in scored) + (near < 0) < 2:
        return scored
    heard = []
    for score, token, evidence in scored:
        if score > near:
            evidence[1] = min(noise(position, token) - Noise.MEAN, LOUDEST)
        heard.append((score + weight * evidence[1], token, evidence))
    return heard
