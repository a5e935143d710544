"""Drafts by the longest match: what followed the longest suffix of a text that occurs elsewhere, in any text.

As in SuffixDecoding (Oliaro et al., arXiv 2411.04975) and SAM-Decoding (Hu et al., arXiv 2411.10666), with one suffix
automaton for the prompts and texts of all branches, so that a branch continues its own prompt, a sibling or an earlier
text alike. The longer a match, the surer and so the longer its draft. Those papers rank by frequency and bound a draft
by the length of the match; here each node gets a probability that is learned online:

1. *Levels.* The match and its next shorter suffixes with further places, three in all, each predict by counts. How
   often such counts were right, by the length of the suffix, is counted.
2. *Mixing.* A logistic mixture of the levels' log-odds gives the probability of a candidate. Its weights are learned by
   gradient steps, apart for short and long matches, as in PAQ (Mahoney, 2005).
3. *Coupling.* For a sampled row the target's known noise of a candidate is one more input, see :mod:`.ngram`.

A long match that has been followed by one token only needs no other level, which makes copying fast.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...records import Draft, SequenceState
from .best_first import BestFirstDrafter, best_first
from .gumbel import Noise, noise_of
from .suffix_automaton import NONE, ROOT, SuffixAutomaton
from .suffix_mixture import Level, SuffixGuess, SuffixMixture

LEVELS = 3
"""Suffixes that predict; four predict little better for a third more work."""
SURE = 16
"""Tokens of a match that, followed by one token only, predicts alone."""

Match = tuple[int, int]
"""The automaton's state of a text that occurs elsewhere, and its tokens."""


class _SuffixEvidence:
    """One live sequence."""

    __slots__ = ("guess", "last", "mixture", "noise", "spare")

    def __init__(self, mixture: SuffixMixture, noise: Noise | None) -> None:
        self.mixture, self.noise = mixture, noise
        self.last = ROOT
        """State of its text."""
        self.spare = NONE
        """State of its text in the automaton that comes next; -1 until it is read there."""
        self.guess: SuffixGuess | None = None
        """The guess for the next token, where it is already made."""


class SuffixDrafter(BestFirstDrafter):
    """Drafts what followed the longest match; lives as long as its engine.

    ``states`` bounds the memory. Once an automaton is half full, all texts are also read into a second one, which
    replaces the first when that is full: so between half as many and all of the latest states are in use, and one and a
    half times as many in memory (about 50 bytes each, 10 MB), with live sequences read once more.
    """

    name = "suffix"

    def __init__(self, states: int = 1 << 17) -> None:
        self.states = states
        self._automaton = SuffixAutomaton()
        self._spare: SuffixAutomaton | None = None
        self._greedy, self._sampled = SuffixMixture(), SuffixMixture()
        self._evidence: dict[SequenceState, _SuffixEvidence] = {}
        self._last_read: tuple[SuffixAutomaton | None, list[int], int] = None, [], ROOT
        """Of the sequence that was read last: where, its tokens then, and their state."""

    def __len__(self) -> int:
        """How many states are held, the empty text's left out."""
        return len(self._automaton) - 1 + (0 if self._spare is None else len(self._spare) - 1)

    def observe(self, row: SequenceState, start: int) -> None:
        """Read a new sequence whole; compare every further token with its guess, then learn it."""
        if row not in self._evidence:
            self.join(row, noise_of(row))
            start = len(row.tokens)
        sequence = self._evidence[row]
        for i in range(start, len(row.tokens)):
            token = row.tokens[i]
            guess = sequence.guess or self._guess(sequence, *self._match(sequence), i - row.prompt)
            sequence.guess = guess.children.get(token)
            self.advance(row, token, guess)
        sequence.guess = None
        self.renew(row, start)

    def match(self, row: SequenceState) -> Match:
        """The longest match of an observed sequence."""
        return self._match(self._evidence[row])

    def further(self, match: Match, token: int) -> Match:
        """The longest match after one more token."""
        automaton = self._automaton
        state, length = match
        while not (reached := automaton.step(state, token)):
            if state == ROOT:
                return match
            state = automaton.link[state]
            length = automaton.length[state]
        length += 1
        if automaton.token[reached] == NONE:
            reached = automaton.longest(reached)
            length = automaton.length[reached]
        return reached, length

    def guess(self, row: SequenceState, match: Match, position: int) -> SuffixGuess:
        """Candidates for ``position`` of the generated tokens of an observed sequence, after a match."""
        return self._guess(self._evidence[row], *match, position)

    def advance(self, row: SequenceState, token: int, guess: SuffixGuess | None) -> None:
        """Learn a committed token of an observed sequence, and compare it with the guess where one was made."""
        sequence, automaton = self._evidence[row], self._automaton
        if guess is not None:
            sequence.mixture.learn(guess, token)
        sequence.last = automaton.extend(sequence.last, token)
        automaton.count_end(sequence.last)

    def renew(self, row: SequenceState, start: int) -> None:
        """Read the tokens from ``start`` on into the automaton that comes next, if there is one."""
        sequence = self._evidence[row]
        self._turn()
        spare = self._spare
        if spare is None:
            return
        if sequence.spare == NONE:
            sequence.spare = _read(spare, row.tokens)
        else:
            for token in row.tokens[start:]:
                sequence.spare = spare.extend(sequence.spare, token)
                spare.count_end(sequence.spare)

    def warm(self, tokens: Sequence[int]) -> bool:
        """See :meth:`Drafter.warm`."""
        _read(self._automaton, tokens)
        self._turn()
        if self._spare is not None:
            _read(self._spare, tokens)
        return True

    def forget(self, row: SequenceState) -> None:
        """Drop the sequence; its text stays."""
        self._evidence.pop(row, None)

    def close(self) -> None:
        """Drop all texts."""
        self._automaton, self._spare = SuffixAutomaton(), None
        self._last_read = None, [], ROOT
        self._evidence.clear()

    def join(self, row: SequenceState, noise: Noise | None) -> None:
        """Read a new sequence whole. ``noise``: the target's, of a sampled sequence."""
        sequence = _SuffixEvidence(self._greedy if noise is None else self._sampled, noise)
        automaton, tokens, last = self._last_read
        if automaton is not self._automaton or tokens != row.tokens:  # else read before: another sample of a prompt
            last = _read(self._automaton, row.tokens)
            self._last_read = self._automaton, list(row.tokens), last
        sequence.last = last
        self._evidence[row] = sequence

    def _turn(self) -> None:
        """Begin another automaton where this one is half full, and change to it where it is full."""
        if len(self._automaton) >= self.states and self._spare is not None:
            self._automaton, self._spare = self._spare, None
            for sequence in self._evidence.values():
                sequence.last, sequence.spare = max(sequence.spare, ROOT), NONE
        if self._spare is None and 2 * len(self._automaton) >= self.states:
            self._spare = SuffixAutomaton()

    def _match(self, sequence: _SuffixEvidence) -> Match:
        """State and tokens of the longest match of a sequence."""
        state = self._automaton.longest(sequence.last)
        return state, self._automaton.length[state]

    def _guess(self, sequence: _SuffixEvidence, state: int, length: int, position: int) -> SuffixGuess:
        """Candidates for ``position`` of the generated tokens, after a match."""
        guess = SuffixGuess(state, length)
        if state != ROOT:
            sequence.mixture.fill(guess, self._levels(state, length), sequence.noise, position)
        return guess

    def _levels(self, state: int, length: int) -> list[Level]:
        """Of a match and its next shorter suffixes the tokens, what followed, and how often in all."""
        automaton = self._automaton
        count, token, target = automaton.count, automaton.token, automaton.target
        levels: list[Level] = []
        while state != ROOT and len(levels) < LEVELS:
            first = count[target[state]]
            counts, more = {token[state]: first}, automaton.more.get(state)
            if more is not None:
                for following, reached in more.items():
                    counts[following] = count[reached]
                first = sum(counts.values())
            levels.append(Level(length, counts, first or 1))
            if length >= SURE and more is None:
                break
            state = automaton.link[state]
            length = automaton.length[state]
        return levels

    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """See :class:`BestFirstDrafter`; empty for a sequence that was not observed."""
        sequence = self._evidence.get(row)
        if sequence is None:
            return Draft()

        def after(guess: SuffixGuess, token: int, level: int) -> SuffixGuess:
            match = self.further((guess.state, guess.length), token)
            following = guess.children[token] = self._guess(sequence, *match, row.position + level)
            return following

        sequence.guess = self._guess(sequence, *self._match(sequence), row.position)
        return best_first(sequence.guess, after, floor, depth)


def _read(automaton: SuffixAutomaton, tokens: Sequence[int]) -> int:
    """Read a text, and count its places but those of a prefix that has begun another text; its state."""
    last, known = ROOT, True
    for token in tokens:
        states = len(automaton)
        last = automaton.extend(last, token)
        known = known and last < states
        if not known:
            automaton.count_end(last)
    return last
