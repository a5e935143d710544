"""What is particular to adaptive consistency."""

from __future__ import annotations

from collections import Counter

import pytest
from chain_tools import LOOSE
from hypothesis import given
from hypothesis import strategies as st
from search_cases import chains, short
from synthetic import TreeBackend, solve, task

from treeagent import Budget
from treeagent.strategies.adaptive_sc import AdaptiveSC, lead
from treeagent.strategies.baselines import CoTSC


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_the_lead_is_the_beta_probability(answers: list[str]) -> None:
    """It is P(p > 1/2) for Beta(v1 + 1, v2 + 1), here by numeric integration."""
    first, second = ([votes for _, votes in Counter(answers).most_common(2)] + [0])[:2]

    def density(p: float) -> float:
        return p**first * (1 - p) ** second

    steps = [(i + 0.5) / 4000 for i in range(4000)]
    total, above = sum(map(density, steps)), sum(density(p) for p in steps if p > 0.5)
    assert lead(answers) == pytest.approx(above / total, abs=1e-4)


@pytest.mark.parametrize(
    ("answers", "drawn", "winner"),
    [
        ("aaaaaaaaaa", 4, "a"),  # 1 - 1/2^5 = 0.969 after four equal votes
        ("abaaaaaaaa", 7, "a"),  # 1 - 9/2^8 = 0.965 after six against one
        ("ababababab", 10, "a"),
        ("bababababb", 10, "b"),
    ],
)
def test_adaptive_consistency_stops_when_the_vote_is_settled(answers: str, drawn: int, winner: str) -> None:
    """Agreement ends it early; disagreement costs all attempts."""
    backend = TreeBackend([1], answer=chains(*answers))
    result = solve(backend, AdaptiveSC(k=10), task=task(**LOOSE))
    assert (result.answer, len(backend.requests)) == (winner, drawn)


@short
@given(st.text("ab", min_size=6, max_size=6), st.integers(1, 4))
def test_adaptive_consistency_is_a_vote_over_what_it_has_drawn(answers: str, parallel: int) -> None:
    """Its attempts are the first of those of ``cot-sc``, and its answer is that of a ``cot-sc`` of so many."""
    ours, theirs = (TreeBackend([1], answer=chains(*answers)) for _ in range(2))
    result = solve(ours, AdaptiveSC(k=6, parallel=parallel), task=task(**LOOSE))
    drawn = len(ours.requests)
    assert drawn == 6 or drawn % parallel == 0
    assert result.answer == solve(theirs, CoTSC(k=drawn), task=task(**LOOSE)).answer
    assert [each.key for each in ours.requests] == [each.key for each in theirs.requests]  # type: ignore[union-attr]


def test_adaptive_consistency_that_is_cut_answers_with_its_vote() -> None:
    """What was paid for votes, also where the budget ends between two attempts."""
    result = solve(TreeBackend([1], answer=chains(*"abbaa")), AdaptiveSC(), budget=Budget(calls=3), task=task(**LOOSE))
    assert (result.answer, result.ended) == ("b", "calls")
