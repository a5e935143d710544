"""The drafter that weighs n-gram tables and the longest match for every node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_drafts import check_coupled, check_form, check_rates, check_rejection, commit, joined
from test_seed_ngram import Source
from toy_laws import CUT, WARM

from treeagent.backends.seed.drafters.tables.merged import MergedDrafter
from treeagent.backends.seed.drafters.tables.ngram import NgramDrafter
from treeagent.backends.seed.drafters.tables.suffix import SuffixDrafter
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.request import Sampling

Table = MergedDrafter | NgramDrafter | SuffixDrafter


def accepted(drafter: Table, written: Sequence[Sequence[int]]) -> int:
    """Drafted tokens that came true where texts are written one after another."""
    hits = 0
    for text in written:
        branch = joined(drafter, text[:8])
        while len(branch.tokens) < len(text):
            [draft] = drafter.propose([branch], 0.3, 8)
            node, came = -1, 0
            for token in text[len(branch.tokens) :]:
                followers = [
                    i for i in range(len(draft)) if draft.parents[i] == node and draft.tokens[i] == token
                ]  # siblings differ
                if not followers:
                    break
                [node] = followers
                came += 1
            hits += came
            known = len(branch.tokens)
            branch.append(text[known : known + came + 1])
            drafter.observe(branch, known)
        drafter.forget(branch)
    return hits


def repeated(rng: np.random.Generator) -> list[list[int]]:
    """Passages of one long text, cut anywhere: the longest match tells passages with the same words apart."""
    words = rng.integers(0, 40, size=(12, 7)).tolist()
    whole = [token for i in rng.integers(0, 12, size=60) for token in words[i]]
    return [whole[at : at + 120] for at in rng.integers(0, len(whole) - 120, size=30)]


def chains(rng: np.random.Generator) -> list[list[int]]:
    """Texts of a Markov chain, which never go on as another one did for long."""
    source, written = Source(3), []
    for i in range(30):
        branch = SequenceState([i % 24], 1, Sampling(), i, 1000)
        branch.append([source.next(branch)])
        while len(branch.tokens) < 100:
            branch.append([source.next(branch)])
        written.append(branch.tokens)
    return written


@pytest.mark.parametrize("kind", [repeated, chains])
def test_it_is_about_as_good_as_the_better_table(kind) -> None:
    """On texts that one table or the other suits, accepted tokens reach 97 % of those of the better one."""
    written = kind(np.random.default_rng(5))
    better = max(accepted(NgramDrafter(), written), accepted(SuffixDrafter(), written))
    assert accepted(MergedDrafter(), written) >= 0.97 * better > 100


@given(
    st.lists(st.tuples(*[st.lists(st.integers(0, 3), min_size=1, max_size=40)] * 2), min_size=1, max_size=4),
    st.floats(0, 1.1),
    st.integers(0, 6),
    st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=60, deadline=None)
def test_drafts_are_well_formed(
    branches: list[tuple[list[int], list[int]]], floor: float, depth: int, temperature: float
) -> None:
    """One draft a row; parents come first, siblings differ and have 1 in all at most; floor and depth are kept to."""
    drafter, rows = MergedDrafter(), []
    for stream, (prompt, continuation) in enumerate(branches):
        rows.append(joined(drafter, prompt, temperature, stream))
        commit(drafter, rows[-1], continuation)
    for tree in drafter.propose(rows, floor, depth):
        check_form(tree, floor, depth)
        for node in {-1, *tree.parents}:
            assert sum(c for p, c in zip(tree.parents, tree.confidence, strict=True) if p == node) <= 1 + 1e-9


def test_nothing_is_kept_of_a_row_that_left() -> None:
    """A row that left is not drafted for, and comes back with the drafts it had; close forgets all texts."""
    drafter = MergedDrafter()
    branch = joined(drafter, [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4])
    before = drafter.propose([branch], 0.05, 4)
    assert before[0].tokens
    drafter.forget(branch)
    assert drafter.propose([branch], 0.05, 4) == [Draft()]
    drafter.observe(branch, 0)
    assert drafter.propose([branch], 0.05, 4)[0].tokens == before[0].tokens
    drafter.close()
    assert drafter.propose([joined(drafter, [1, 2, 3])], 0.05, 4) == [Draft()]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_predicted_acceptance_rates_are_the_measured_ones(temperature: float) -> None:
    """At temperature 0 and above."""
    check_rates(MergedDrafter(), temperature)


@pytest.mark.usefixtures("tabulated")
@pytest.mark.parametrize("setting", [WARM, CUT], ids=["warm", "cut"])
def test_recursive_rejection_keeps_the_law_of_the_text(setting: Sampling) -> None:
    """With drafts from texts that were read, and not with a broken twin of the rule."""
    check_rejection(MergedDrafter, setting)


@pytest.mark.usefixtures("tabulated")
def test_coupled_verification_keeps_the_text() -> None:
    """Every text is the one without drafts."""
    check_coupled(MergedDrafter)
