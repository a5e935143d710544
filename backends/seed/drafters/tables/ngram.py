"""Drafts by counting: the tokens that followed the last few tokens before, in any sequence of this engine.

Prompt lookup (https://github.com/apoorvumang/prompt-lookup-decoding) with one table for all branches, as in Token
Recycling (Luo et al., arXiv 2408.08696) and STAND (arXiv 2506.04708). Those propose trees of a fixed shape; this
drafter estimates for every node the probability that it is accepted, and leaves out nodes that cannot pay:

1. *Evidence.* Every context of one to six tokens stores the tokens that came next; a sequence also stores what followed
   its own last token. A prefix that several texts share counts once.
2. *Mixing.* The usual followers of the longest contexts are candidates. A candidate's score is a weighted sum of its
   log-odds in each context, and a softmax over the candidates and "something else" (score 0) gives probabilities. The
   weights are learned online by gradient steps on the log-likelihood, as in PAQ's logistic mixing (Mahoney, 2005).
3. *Coupling.* A sampled row's target emits argmax(log p + g) with a noise g that is known (Daliri et al., arXiv
   2408.07978). g is one more term of the score, with a learned weight, because counts are a poor estimate of p.
4. *Calibration.* How often candidates of a given confidence came corrects the next confidences.

Mixing and calibration learn from every committed token, drafted or not: a guess for it is made and compared. So nothing
must be drafted to find out whether drafting pays.

:mod:`.compiled_ngram` does the same in C, with the same numbers.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from ...records import Draft, SequenceState
from .best_first import BestFirstDrafter, best_first, contest_threshold
from .gumbel import Noise, noise_of
from .ngram_mixture import ORDER, NgramMixture, Scored, WeightedGuess, product_sum

WINDOW = 16
"""Followers that a context stores, the latest; more of them predict no better."""
OWN_WINDOW = 8
"""The same for what a sequence stores of its own tokens."""
TAIL = 256
"""Tokens at a prompt's end that are evidence of the sequence's own, even where others share them; bounds the time to
read a prompt."""
CANDIDATES = 2
"""Distinct followers looked for in the shared contexts, longest first; looking for more predicts no better."""
PREFIXES = 1 << 17
"""Prefixes of texts that are remembered (1 MB); where one has displaced another, what follows that one counts twice."""
SMOOTHING = 0.8
"""Pseudo-counts for and against in a log-odds."""
LOUDEST = 4.0
"""Upper bound of the noise as evidence (one value in 100 is greater), so that no single value moves a weight far."""

ODDS = [[math.log((c + SMOOTHING) / (n - c + SMOOTHING)) for c in range(n + 1)] for n in range(WINDOW + 1)]
"""[n][c]: log-odds of a token that is c of n followers."""

Followers = str
"""Tokens that came after a context, as characters, the latest last: str counts them faster than a tuple of ints."""


class _SequenceEvidence:
    """The evidence of one live sequence."""

    __slots__ = ("guess", "mixture", "noise", "own", "prefix", "text")

    def __init__(self, mixture: NgramMixture, noise: Noise | None) -> None:
        self.mixture = mixture
        self.noise = noise
        self.text = ""
        """The last ORDER tokens, as characters: Python cuts and hashes a str faster than a tuple."""
        self.prefix = 0
        """Hash of all tokens."""
        self.own: dict[str, Followers] = {}
        """What followed each token in this sequence."""
        self.guess: WeightedGuess | None = None
        """The guess for the next token, where a draft was made."""


class NgramDrafter(BestFirstDrafter):
    """Drafts tokens that followed the same contexts before; lives as long as its engine.

    ``contexts`` bounds the memory: so many make a generation, about 190 bytes each, and two generations are held at
    most (50 MB). When one is full the one before it is dropped, with all contexts that did not come again since. The
    default fills after 22 000 tokens of text unlike any before, or more of ordinary text. A live sequence adds up to
    50 kB.
    """

    name = "ngram"

    def __init__(self, contexts: int = 1 << 17) -> None:
        self.contexts = contexts
        self._new: dict[str, Followers] = {}
        self._old: dict[str, Followers] = {}
        self._prefixes = array("Q", bytes(8 * PREFIXES))
        """The latest prefix with each remainder of its hash."""
        self._greedy, self._sampled = NgramMixture(), NgramMixture()
        self._evidence: dict[SequenceState, _SequenceEvidence] = {}

    def __len__(self) -> int:
        """How many contexts are held."""
        return len(self._new) + len(self._old)

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a new sequence whole; compare every further token with its guess, then learn it."""
        if row not in self._evidence:
            self.join(row, noise_of(row))
            start = len(row.tokens)
        sequence = self._evidence[row]
        guess, sequence.guess = sequence.guess, None
        for i in range(start, len(row.tokens)):
            token = row.tokens[i]
            guess = guess or self._guess(sequence, sequence.text, i - row.prompt)
            self.advance(row, token, guess)
            guess = guess.children.get(token)

    def text(self, row: SequenceState) -> str:
        """The end of an observed sequence, as :meth:`guess` takes it."""
        return self._evidence[row].text

    def guess(self, row: SequenceState, text: str, position: int) -> WeightedGuess:
        """Candidates for ``position`` of the generated tokens of an observed sequence, after ``text``."""
        return self._guess(self._evidence[row], text[-ORDER:], position)

    def advance(self, row: SequenceState, token: int, guess: WeightedGuess | None) -> None:
        """Learn a committed token of an observed sequence, and compare it with the guess where one was made."""
        sequence = self._evidence[row]
        if guess is not None:
            sequence.mixture.learn(guess, token)
        self._learn(sequence, token, shared=True, own=True)

    def warm(self, tokens: Sequence[int]) -> bool:
        """See :class:`Drafter`."""
        self._read(_SequenceEvidence(self._greedy, None), tokens, len(tokens))
        return True

    def forget(self, row: SequenceState) -> None:
        """Drop the sequence's own evidence; what all sequences share stays."""
        self._evidence.pop(row, None)

    def close(self) -> None:
        """Drop all evidence."""
        for held in (self._new, self._old, self._evidence):
            held.clear()
        self._prefixes = array("Q", bytes(8 * PREFIXES))
        self._greedy, self._sampled = NgramMixture(), NgramMixture()

    def join(self, row: SequenceState, noise: Noise | None) -> None:
        """Read a new sequence: its prompt, and the tokens it had before it was preempted.

        ``noise``: the target's, of a sampled sequence.
        """
        sequence = _SequenceEvidence(self._greedy if noise is None else self._sampled, noise)
        self._read(sequence, row.tokens, row.prompt - TAIL)
        self._evidence[row] = sequence

    def _read(self, sequence: _SequenceEvidence, tokens: Sequence[int], own: int) -> None:
        """Read a text; from the token ``own`` on it is evidence of the sequence's own, too."""
        known = True  # while all of the text so far has begun another text
        for i, token in enumerate(tokens):
            if known:
                prefix = _mixed(sequence.prefix, token)
                known = self._prefixes[prefix & (PREFIXES - 1)] == prefix
            self._learn(sequence, token, shared=not known, own=i >= own)

    def _learn(self, sequence: _SequenceEvidence, token: int, shared: bool, own: bool) -> None:
        """Append a token to a sequence's text, and to the followers of the contexts before it."""
        text, new, character = sequence.text, self._new, chr(token)
        if shared:
            old = self._old
            for start in range(len(text)):
                context = text[start:]
                followers = new.get(context) or old.get(context, "")
                new[context] = followers[1 - WINDOW :] + character
        if own and text:
            sequence.own[text[-1]] = sequence.own.get(text[-1], "")[1 - OWN_WINDOW :] + character
        sequence.text = text[1 - ORDER :] + character
        sequence.prefix = prefix = _mixed(sequence.prefix, token)
        self._prefixes[prefix & (PREFIXES - 1)] = prefix
        if len(new) >= self.contexts:
            self._old, self._new = new, {}

    def _guess(self, sequence: _SequenceEvidence, text: str, position: int) -> WeightedGuess:
        """Candidates for ``position`` of the generated tokens, after ``text``."""
        new, old, known = self._new, self._old, []  # followers of the contexts of 1, 2 ... tokens
        for start in range(len(text) - 1, -1, -1):
            context = text[start:]
            followers = new.get(context) or old.get(context)
            if followers is None:
                break
            known.append(followers)
        weights = sequence.mixture.weights[len(known)]
        candidates, before = "", ""
        for followers in reversed(known):
            if followers == before:
                continue  # the same evidence as that of a longer context
            before = followers
            for character in _usual(followers):
                if character not in candidates:
                    candidates += character
            if len(candidates) >= CANDIDATES:
                break
        own = sequence.own.get(text[-1:])
        if own is not None:
            if own[-1] not in candidates:
                candidates += own[-1]
            known.append(own)
        odds = [(ODDS[len(followers)], followers.count) for followers in known]
        scored: Scored = []
        for character in candidates:
            evidence = [1.0, 0.0, *[table[count(character)] for table, count in odds]]
            scored.append((product_sum(weights, evidence), ord(character), evidence))
        if sequence.noise is not None:
            scored = _with_noise(scored, weights[1], sequence.noise, position)
        guess = WeightedGuess(text, weights)
        sequence.mixture.fill(guess, scored)
        return guess

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """See :class:`BestFirstDrafter`; empty for a sequence that was not observed."""
        sequence = self._evidence.get(row)
        if sequence is None:
            return Draft()
        root = sequence.guess = self._guess(sequence, sequence.text, row.position)

        def after(guess: WeightedGuess, token: int, level: int) -> WeightedGuess:
            text = guess.text[1 - ORDER :] + chr(token)
            following = guess.children[token] = self._guess(sequence, text, row.position + level)
            return following

        return best_first(root, after, floor, depth)


def _mixed(prefix: int, token: int) -> int:
    """Hash of a prefix and a token."""
    mixed = ((prefix ^ token) + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 29


def _usual(followers: Followers) -> str:
    """The latest follower, and where they differ the two most frequent; of equals the later."""
    last = followers[-1]
    most = followers.count(last)
    if most == len(followers):
        return last
    first, second, least = last, "", 0
    for character in dict.fromkeys(followers[-2::-1]):
        if character == last:
            continue
        count = followers.count(character)
        if count > most:
            first, second, most, least = character, first, count, most
        elif count > least:
            second, least = character, count
    return last + first + second


def _with_noise(scored: Scored, weight: float, noise: Noise, position: int) -> Scored:
    """Add the noise to the scores of the candidates that may win by it, "something else" having the score 0."""
    threshold = contest_threshold([score for score, _, _ in scored], 0.0)
    if threshold is None:
        return scored
    noisy = []
    for score, token, evidence in scored:
        if score > threshold:
            evidence[1] = min(noise(position, token) - Noise.MEAN, LOUDEST)
        noisy.append((score + weight * evidence[1], token, evidence))
    return noisy
