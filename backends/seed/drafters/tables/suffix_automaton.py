"""A suffix automaton of several texts that grow in any order.

It accepts exactly the substrings of its texts. A state stands for all substrings that end at the same places, so a text
of n tokens has at most 2n states and 3n edges, and appending a token takes constant time on average (Blumer et al.
1985; of several texts, Mohri et al. 2009). A growing text is known by the state of its whole. The suffix links lead
from there to ever shorter suffixes that occur at ever more places, in the same text or in another one.

Numbers are kept in arrays of 32 bits, and the first edge of a state beside them, as most states have one: about 70
bytes a token.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

ROOT = 0
"""The state of the empty text."""
NONE = -1


class SuffixAutomaton:
    """See the module. Drafters read the arrays; only the methods change them."""

    def __init__(self) -> None:
        self.length = array("i", [0])
        """Of each state the tokens of its longest substring."""
        self.link = array("i", [NONE])
        """Of each state that of its longest suffix with further places."""
        self.count = array("i", [0])
        """Of each state its places, as far as :meth:`count_end` was called for them."""
        self.latest = array("i", [0])
        """Of each state when :meth:`count_end` counted it last, by the number of calls."""
        self.token = array("i", [NONE])
        """Of each state the token of its first edge; -1 without edges."""
        self.target = array("i", [NONE])
        """Of each state where its first edge leads."""
        self.more: dict[int, dict[int, int]] = {}
        """Further edges of the few states that have them."""
        self._calls = 0

    def __len__(self) -> int:
        """How many states there are."""
        return len(self.length)

    def step(self, state: int, token: int) -> int:
        """The state after one more token; 0 where the texts have no such substring."""
        if self.token[state] == token:
            return self.target[state]
        more = self.more.get(state)
        return 0 if more is None else more.get(token, 0)

    def following(self, state: int) -> Iterator[tuple[int, int]]:
        """The tokens that follow, each with the state that it leads to."""
        if self.token[state] != NONE:
            yield self.token[state], self.target[state]
            yield from self.more.get(state, {}).items()

    def extend(self, last: int, token: int) -> int:
        """Append a token to the text whose whole has the state ``last``; the state of the longer text."""
        length, link, tokens, targets, more = self.length, self.link, self.token, self.target, self.more
        known = self.step(last, token)
        if known:
            return known if length[known] == length[last] + 1 else self._split(last, token, known)
        new = self._add(length[last] + 1)
        state = last
        while state != NONE:
            first = tokens[state]
            if first == NONE:
                tokens[state], targets[state] = token, new
            elif first == token:
                known = targets[state]
                break
            else:
                edges = more.get(state)
                if edges is None:
                    more[state] = {token: new}
                elif token in edges:
                    known = edges[token]
                    break
                else:
                    edges[token] = new
            state = link[state]
        if state == NONE:
            link[new] = ROOT
        else:
            link[new] = known if length[known] == length[state] + 1 else self._split(state, token, known)
        return new

    def count_end(self, state: int) -> None:
        """Count a place where a text, given by its state, and all its suffixes end."""
        self._calls += 1
        link, count, latest, now = self.link, self.count, self.latest, self._calls
        while state > ROOT:
            count[state] += 1
            latest[state] = now
            state = link[state]

    def longest(self, state: int) -> int:
        """The state of the longest suffix of a text that something follows; 0 where nothing follows any."""
        token, link = self.token, self.link
        while token[state] == NONE and state:
            state = link[state]
        return state

    def _add(self, length: int) -> int:
        self.length.append(length)
        self.link.append(NONE)
        self.token.append(NONE)
        self.target.append(NONE)
        self.count.append(0)
        self.latest.append(0)
        return len(self.length) - 1

    def _split(self, state: int, token: int, known: int) -> int:
        """Give the shorter substrings of ``known``, which ``state`` leads to, a state of their own."""
        clone = self._add(self.length[state] + 1)
        for numbers in (self.link, self.count, self.latest, self.token, self.target):
            numbers[clone] = numbers[known]
        if known in self.more:
            self.more[clone] = dict(self.more[known])
        self.link[known] = clone
        while state != NONE and self.step(state, token) == known:
            if self.token[state] == token:
                self.target[state] = clone
            else:
                self.more[state][token] = clone
            state = self.link[state]
        return clone
