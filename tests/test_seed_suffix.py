"""The suffix automaton, and the drafter that continues the longest match in it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_seed_ngram import Source
from toy_laws import CUT, TEXTS, WARM, Law, Shaped, joint, p_value, texts

from treeagent.backends.seed.drafters.model.tree_shapes import Chain
from treeagent.backends.seed.drafters.tables.suffix import SuffixDrafter
from treeagent.backends.seed.drafters.tables.suffix_automaton import ROOT, SuffixAutomaton
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.backends.seed.verifiers.rejection import Rejection
from treeagent.request import Sampling

RHYME = [31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95]


def row(prompt: Iterable[int], temperature: float = 0.0, stream: int = 0, limit: int = 100_000) -> SequenceState:
    """A branch that has generated nothing yet."""
    tokens = list(prompt)
    return SequenceState(tokens, len(tokens), Sampling(temperature=temperature), stream, limit)


def joined(drafter: SuffixDrafter, prompt: Iterable[int], temperature: float = 0.0, stream: int = 0) -> SequenceState:
    """A branch whose prompt the drafter has read."""
    branch = row(prompt, temperature, stream)
    drafter.observe(branch, 0)
    return branch


def commit(drafter: SuffixDrafter, branch: SequenceState, tokens: Iterable[int]) -> None:
    """Tokens arrive one a round, whether drafted or not."""
    for token in tokens:
        branch.tokens.append(token)
        drafter.observe(branch, len(branch.tokens) - 1)


def draft(drafter: SuffixDrafter, branch: SequenceState, floor: float = 0.3, depth: int = 8) -> Draft:
    """The draft of one branch."""
    return drafter.propose([branch], floor, depth)[0]


def state_of(automaton: SuffixAutomaton, text: Iterable[int]) -> int:
    """The state of a text; 0 where no text contains it."""
    state = ROOT
    for token in text:
        state = automaton.step(state, token)
        if not state:
            break
    return state


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_automaton_is_that_of_brute_force(appended: Sequence[tuple[int, int]]) -> None:
    """Three texts that grow in any order: substrings, their places, what follows them, and the longest matches."""
    automaton, texts, last = SuffixAutomaton(), [[], [], []], [ROOT] * 3
    for which, token in appended:
        texts[which].append(token)
        last[which] = automaton.extend(last[which], token)
        automaton.count_end(last[which])
    places = Counter(tuple(t[i:j]) for t in texts for j in range(1, len(t) + 1) for i in range(j))
    follows: dict[tuple[int, ...], set[int]] = {}
    for text in places:
        follows.setdefault(text[:-1], set()).add(text[-1])
    for text, count in places.items():
        state = state_of(automaton, text)
        assert automaton.count[state] == count
        assert {token for token, _ in automaton.following(state)} == follows.get(text, set())
        assert automaton.length[state] >= len(text) > automaton.length[automaton.link[state]]
    for text, state in zip(texts, last, strict=True):
        assert state_of(automaton, text) == state
        suffixes = [tuple(text[i:]) for i in range(len(text) + 1)]
        longest = max((len(suffix) for suffix in suffixes if suffix in follows), default=0)
        assert automaton.length[automaton.longest(state)] == longest
    assert not state_of(automaton, [3])
    assert len(automaton) <= 2 * len(appended) + 1


def test_a_long_match_is_continued_to_the_full_depth() -> None:
    """A text that another branch, now gone, has written is drafted whole when it begins again."""
    drafter = SuffixDrafter()
    for i in range(6):
        commit(drafter, joined(drafter, [100 + i]), RHYME)
    branch = joined(drafter, [7, 8])
    commit(drafter, branch, RHYME[:6])
    assert draft(drafter, branch, 0.05, 16).tokens == RHYME[6:]
    assert draft(drafter, branch, 0.05, 3).tokens == RHYME[6:9]
    assert not draft(drafter, branch, floor=1.0)
    assert not draft(drafter, row(RHYME))
    assert not draft(drafter, joined(drafter, [1001, 1002]))


def test_the_longest_match_decides() -> None:
    """Of two continuations of the same last tokens the one with more of the text before it comes first."""
    drafter = SuffixDrafter()
    for _ in range(2):
        drafter.forget(joined(drafter, [1, 2, 3, 4, 50, 60]))
        drafter.forget(joined(drafter, [9, 9, 3, 4, 70, 80]))
    assert draft(drafter, joined(drafter, [5, 1, 2, 3, 4]), 0.1).tokens[0] == 50
    assert draft(drafter, joined(drafter, [5, 9, 9, 3, 4]), 0.1).tokens[0] == 70


def test_confidence_grows_with_every_match_that_came_true() -> None:
    """A drafter that was right for a while drafts the same text deeper."""
    drafter = SuffixDrafter()
    drafter.forget(joined(drafter, RHYME))
    before = draft(drafter, joined(drafter, [7, *RHYME[:4]]), 0.5, 16)
    for i in range(6):
        branch = joined(drafter, [100 + i, RHYME[0]])
        commit(drafter, branch, RHYME[1:])
        drafter.forget(branch)
    assert len(draft(drafter, joined(drafter, [8, *RHYME[:4]]), 0.5, 16)) > len(before)


@given(
    st.lists(st.tuples(*[st.lists(st.integers(0, 3), min_size=1, max_size=40)] * 2), min_size=1, max_size=4),
    st.floats(0, 1.1),
    st.integers(0, 6),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=80, deadline=None)
def test_drafts_are_well_formed(
    branches: list[tuple[list[int], list[int]]], floor: float, depth: int, limit: int, temperature: float
) -> None:
    """One draft a row; parents come first and siblings differ; floor, depth and the row's room are kept to."""
    drafter, rows = SuffixDrafter(states=64), []
    for stream, (prompt, continuation) in enumerate(branches):
        rows.append(row(prompt, temperature, stream, limit))
        drafter.observe(rows[-1], 0)
        commit(drafter, rows[-1], continuation[: limit - 1])
    for branch, tree in zip(rows, drafter.propose(rows, floor, depth), strict=True):
        assert all(-1 <= parent < node for node, parent in enumerate(tree.parents))
        assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree)
        reached: list[float] = []
        levels: list[int] = []
        for parent, confidence in zip(tree.parents, tree.confidence, strict=True):
            reached.append(confidence * (1.0 if parent < 0 else reached[parent]))
            levels.append(1 if parent < 0 else levels[parent] + 1)
        assert all(floor <= chance <= 1 for chance in reached)
        assert all(level <= min(depth, branch.room) for level in levels)
        assert tree.law is None


def test_memory_is_bounded_and_what_is_in_use_stays() -> None:
    """However much is read, two automata are held at most; a text that goes on is remembered."""
    drafter, noise = SuffixDrafter(states=600), random.Random(0)
    living = joined(drafter, RHYME)
    for _ in range(40):
        drafter.forget(joined(drafter, [noise.randrange(10_000) for _ in range(50)]))
        commit(drafter, living, RHYME)
        assert len(drafter) <= 2 * (600 + len(living.tokens))
    assert draft(drafter, joined(drafter, [1, *RHYME[:6]])).tokens == RHYME[6:14]
    commit(drafter, living, RHYME[:6])
    assert draft(drafter, living).tokens == RHYME[6:14]


def test_a_row_that_comes_back_is_not_new_evidence() -> None:
    """A preempted branch that joins again with all its tokens is not counted twice."""
    drafter = SuffixDrafter()
    branch = joined(drafter, [7, 8, *RHYME[:4]])
    commit(drafter, branch, [70, 71])
    before = list(drafter._automaton.count)
    drafter.forget(branch)
    drafter.observe(branch, 0)
    assert list(drafter._automaton.count) == before
    drafter.close()
    assert len(drafter) == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_predicted_acceptance_rates_are_the_measured_ones(temperature: float) -> None:
    """On a stationary source each fifth of the predictions averages the measured rate, within sampling error."""
    source, drafter, outcomes = Source(1), SuffixDrafter(), []
    rows = [joined(drafter, [i], temperature, i + 1) for i in range(6)]
    for i in range(500):
        for branch, tree in zip(rows, drafter.propose(rows, 0.05, 1), strict=True):
            token = source.next(branch)
            if i > 250:
                outcomes += [(claim, node == token) for node, claim in zip(tree.tokens, tree.confidence, strict=True)]
            commit(drafter, branch, [token])
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        part = [(claim, hit) for claim, hit in outcomes if low <= claim < low + 0.2]
        claimed, realised = np.mean(part, axis=0)
        assert claimed == pytest.approx(realised, abs=0.06 + 0.6 / len(part) ** 0.5)


class Observing(SuffixDrafter):
    """Sees committed tokens without an engine, and the lengths of its drafts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[SequenceState, int] = {}
        self.lengths: list[int] = []

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """See :class:`Drafter`."""
        for branch in rows:
            self.observe(branch, self.seen.get(branch, 0))
            self.seen[branch] = len(branch.tokens)
        drafts = super().propose(rows, floor, depth)
        self.lengths.extend(map(len, drafts))
        return drafts


class NothingTakenOff(Rejection):
    """After a rejection draws from the whole law again."""

    def residual(self, law: Law, token: int, proposal: Law | None) -> Law:
        """Wrong."""
        return law


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
def test_recursive_rejection_keeps_the_law_of_the_text(setting: Sampling) -> None:
    """Texts of two tokens have the law of the target, with drafts from texts that were read; a broken twin has not."""
    drawn = []
    for rule in (Rejection(), NothingTakenOff()):
        drafter = Observing()
        texts(rule, drafter, setting, 300, 2, first=15_000)
        drafter.lengths.clear()
        drawn.append(texts(rule, drafter, setting, TEXTS, 2))
        assert np.mean(drafter.lengths) > 1
    assert p_value(drawn[0], joint(setting, 2)) > 1e-3
    assert p_value(drawn[1], joint(setting, 2)) < 1e-6


@pytest.mark.usefixtures("tabulated")
def test_coupled_verification_keeps_the_text() -> None:
    """Every text is the one without drafts."""
    drafter = Observing()
    texts(Coupled(), drafter, WARM, 300, 3, first=15_000)
    drafter.lengths.clear()
    drawn = texts(Coupled(), drafter, WARM, 2000, 3)
    assert np.mean(drafter.lengths) > 1
    assert np.array_equal(drawn, texts(Coupled(), Shaped(Chain(keeps_law=False)), WARM, 2000, 3))
