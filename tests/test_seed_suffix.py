"""The suffix automaton, and the drafter that continues the longest match in it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_drafts import check_coupled, check_form, check_rates, check_rejection, commit, joined
from toy_laws import CUT, WARM

from treeagent.backends.seed.drafters.tables.suffix import SuffixDrafter
from treeagent.backends.seed.drafters.tables.suffix_automaton import ROOT, SuffixAutomaton
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.request import Sampling

RHYME = [31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95]


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
    assert not draft(drafter, SequenceState(list(RHYME), len(RHYME), Sampling(), 0, 100_000))
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
        rows.append(joined(drafter, prompt, temperature, stream, limit))
        commit(drafter, rows[-1], continuation[: limit - 1])
    for branch, tree in zip(rows, drafter.propose(rows, floor, depth), strict=True):
        check_form(tree, floor, min(depth, branch.room))
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
    """At temperature 0 and above."""
    check_rates(SuffixDrafter(), temperature)


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
def test_recursive_rejection_keeps_the_law_of_the_text(setting: Sampling) -> None:
    """With drafts from texts that were read, and not with a broken twin of the rule."""
    check_rejection(SuffixDrafter, setting)


@pytest.mark.usefixtures("tabulated")
def test_coupled_verification_keeps_the_text() -> None:
    """Every text is the one without drafts."""
    check_coupled(SuffixDrafter)
