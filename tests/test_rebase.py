"""What is particular to REBASE, on synthetic trees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_trees import backend_of, judged_trees
from search_cases import short
from synthetic import TreeBackend, solve

from treeagent import Request
from treeagent.strategies.allotment import allotment
from treeagent.strategies.rebase import Rebase

REWARDS = st.lists(st.none() | st.floats(-50, 50), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(REWARDS, st.integers(0, 40), st.floats(0.01, 100))
def test_an_allotment_sums_to_the_budget_and_is_monotone(
    rewards: list[float | None], budget: int, temperature: float
) -> None:
    """Whole shares, none lost; a higher reward never gets less, equal ones differ by one, an unknown one gets none."""
    shares = allotment(rewards, budget, temperature)
    assert sum(shares) == budget
    assert min(shares) >= 0
    known = [(reward, share) for reward, share in zip(rewards, shares, strict=True) if reward is not None]
    for reward, share in known:
        assert all(share >= other for lower, other in known if lower < reward)
        assert all(abs(share - other) <= 1 for equal, other in known if equal == reward)
    if known:
        assert sum(share for _, share in known) == budget
    else:
        assert max(shares) - min(shares) <= 1


def test_an_allotment_is_the_softmax_of_the_rewards() -> None:
    """Weights 1, 0.368 and 0.135 of ten: 6.65, 2.45 and 0.90, rounded by largest remainders."""
    assert allotment([1.0, 0.5, 0.0], 10, 0.5) == [7, 2, 1]
    assert allotment([1.0, 0.5, 0.0], 10, 1e-3) == [10, 0, 0]
    assert allotment([1.0, 0.5, 0.0], 9, 1e6) == [3, 3, 3]
    assert allotment([2.0, 2.0, 2.0], 4, 1.0) == [2, 1, 1]
    assert allotment([None, 0.0, None], 3, 1.0) == [0, 3, 0]
    assert allotment([], 3, 1.0) == []


@pytest.mark.parametrize("by", ["propose", "sample"])
@short
@given(drawn=judged_trees(), n=st.integers(1, 8), temperature=st.sampled_from([0.05, 0.5, 5.0]))
def test_rebase_shares_its_budget_on_every_level(by: Any, drawn: Any, n: int, temperature: float) -> None:
    """A level's samples are the budget less the finished thoughts, and no more children than that come of it."""
    tree, values = drawn
    backend = backend_of(tree, values)
    result = solve(backend, Rebase(n=n, temperature=temperature, by=by))
    asked: dict[int, int] = {}
    for request in backend.requests:
        if isinstance(request, Request) and request.key.role == "sample":
            depth = 0 if request.key.place == "root" else request.key.place.count(".") + 1
            asked[depth] = asked.get(depth, 0) + request.n
    finished = 0
    for depth in range(6):
        level = [thought for thought in result.tree if thought.depth == depth + 1]
        assert len(level) <= max(n - finished, 0)
        if by == "sample" and depth in asked:
            assert asked[depth] == n - finished
        finished += sum(thought.terminal for thought in level)


def test_rebase_gives_a_better_thought_more_children() -> None:
    """Ten samples: the best thought has most of them, the worst one none."""
    values: dict[str, int | None] = {"ra": 0, "rb": 20, "rc": 30} | dict.fromkeys(["raa", "rba", "rca"], 1)
    backend = backend_of([[1], [2], [3]], values)
    solve(backend, Rebase(n=10, by="sample", temperature=0.5))
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    assert [(request.prompt.split()[3], request.n) for request in asked] == [("r", 10), ("ra", 1), ("rb", 3), ("rc", 6)]


def test_rebase_reads_the_first_steps_of_a_list_up_to_the_share() -> None:
    """What a list holds beyond the share is no thought, and no judge is paid for it."""
    backend = TreeBackend([[1, 2], [3, 4, 5], [6]])
    result = solve(backend, Rebase(n=2))
    assert [thought.state for thought in result.tree] == ["r", "ra", "rb", "rba", "rbb"]
    assert len(backend.prompts("value")) == 4
