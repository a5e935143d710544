"""Requests that are sent early: whatever happens to them, the tree, the answer, the bill and the cut stay the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from early_tools import KeyedBackend, real, story
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import solve, task, trees

from treeagent import Budget, Event, Request, Result, Search, Task
from treeagent.runtime.early_requests import EarlyRequests
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.adaptive_sc import AdaptiveSC
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.beam import Beam
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.best_of_n import BestOfN
from treeagent.strategies.bfs import BFS
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.chain_in_tree import ChainInTree
from treeagent.strategies.dfs import DFS
from treeagent.strategies.dvts import DVTS
from treeagent.strategies.greedy import Greedy
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.particle_filter import ParticleFilter
from treeagent.strategies.rap import RAP
from treeagent.strategies.rebase import Rebase

SEARCHES: list[Search] = [
    DFS(threshold=5.0),
    DFS(threshold=0.0, width=1),
    DFS(threshold=0.0, by="sample", k=2),
    BestFirst(),
    BestFirst(parallel=2, expansions=4),
    BFS(b=2),
    BFS(b=3, by="sample", k=2),
    Beam(b=2),
    Greedy(),
    DVTS(subtrees=2),
    DVTS(subtrees=2, by="sample", k=2),
    Rebase(n=4),
    Rebase(n=4, by="sample"),
    MCTS(parallel=1, simulations=6),
    MCTS(parallel=3, simulations=7),
    RAP(iterations=4),
    CoTSC(k=3),
    AdaptiveSC(k=5),
    BestOfN(n=4),
    BestOfN(n=3, vote="weighted", by="cot"),
    ParticleFilter(n=4),
    ParticleFilter(n=4, by="propose"),
    ABMCTS(simulations=7, parallel=3),
    ABMCTS(simulations=5, parallel=2, by="propose"),
    BudgetGuidedMCTS(simulations=8, parallel=3),
    ChainInTree(b=2, k=3),
]


def small() -> Task:
    """The task with short completions, so that a small budget holds several."""
    roles = ("propose", "sample", "answer", "io", "cot", "vote", "critique", "outcome")
    lengths = "".join(f"\n  {role}: {{max_tokens: 20}}" for role in roles)
    return task(**{"  value: {n: 1}": "  value: {n: 1, max_tokens: 20}" + lengths})


def run(
    backend: KeyedBackend, search: Search, evaluator: str = "value", **how: Any
) -> tuple[dict[str, Any], Any, Result]:
    """The real part of a result, the real story, and the result."""
    events: list[Event] = []
    result = solve(backend, search, evaluator, on_event=events.append, task=small(), **how)
    return real(result), story(events), result


@settings(max_examples=150, deadline=None)
@given(
    tree=trees(),
    search=st.sampled_from(SEARCHES),
    evaluator=st.sampled_from(
        ["value", "choice", "vote", "likelihood", "reward", "generative", "pairwise", "outcome", "prm"]
    ),
    orders=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    speculate=st.sampled_from([1, 2, 8]),
    refuses=st.sampled_from([0, 4]),
    fails=st.sampled_from([0, 2]),
)
def test_early_requests_change_nothing(
    tree: Any, search: Search, evaluator: str, orders: tuple[int, int], speculate: int, refuses: int, fails: int
) -> None:
    """In any order of completion, with texts in any pieces, refusals, and early requests that fail."""
    expected = run(KeyedBackend(tree, orders[0], refuses), search, evaluator)[:2]
    got = run(KeyedBackend(tree, orders[1], refuses, fails), search, evaluator, speculate=speculate)
    assert got[:2] == expected
    assert got[2].speculated is not None


CUTS = st.one_of(
    st.builds(Budget, calls=st.integers(0, 14)),
    st.builds(Budget, nodes=st.integers(0, 8)),
    st.builds(Budget, calls=st.integers(2, 14), nodes=st.integers(2, 8)),
)


@settings(max_examples=100, deadline=None)
@given(
    tree=trees(),
    search=st.sampled_from(SEARCHES),
    budget=CUTS,
    orders=st.tuples(st.integers(0, 999), st.integers(0, 999)),
)
def test_a_budget_cuts_at_the_same_place(tree: Any, search: Search, budget: Budget, orders: tuple[int, int]) -> None:
    """Early requests are no calls and no nodes of a budget."""
    expected = run(KeyedBackend(tree, orders[0]), search, budget=budget)[:2]
    assert run(KeyedBackend(tree, orders[1]), search, budget=budget, speculate=8)[:2] == expected


@settings(max_examples=100, deadline=None)
@given(
    tree=trees(), search=st.sampled_from(SEARCHES), tokens=st.integers(0, 1500), order=st.integers(0, 999),
    priced=st.booleans(),
)  # fmt: skip
def test_no_limit_of_tokens_is_passed_because_of_a_guess(
    tree: Any, search: Search, tokens: int, order: int, priced: bool
) -> None:
    """All that the backend has written for real and early requests together stays below the limit."""
    price = (1.0, 1.0) if priced else None
    budget = Budget(dollars=tokens) if priced else Budget(tokens=tokens)
    backend = KeyedBackend(tree, order, price=price)
    _, _, result = run(backend, search, budget=budget, speculate=8)
    assert backend.words <= tokens
    assert (result.usage.tokens or 0) <= backend.words


def test_a_limit_of_tokens_or_a_price_switches_guesses_off_unless_they_are_asked_for() -> None:
    """``auto`` is for backends whose answers are keyed and free, and that can run early requests at little cost."""

    def speculated(speculate: Any, price: Any = None, rows: int | None = 99, **limits: Any) -> bool:
        backend = KeyedBackend([[1, 2], [3, 4]], None, price=price, rows=rows)
        return run(backend, DFS(), budget=Budget(**limits), speculate=speculate)[2].speculated is not None

    assert speculated("auto", calls=9, nodes=9, seconds=60)
    assert not speculated("auto", tokens=1500)
    assert not speculated("auto", price=(0.1, 0.1))
    assert not speculated("auto", price=(0.1, 0.1), dollars=99.0)
    assert not speculated("auto", rows=None)
    assert not speculated("auto", rows=0)
    assert speculated(4, tokens=1500)
    assert speculated("4", (0.1, 0.1))
    assert not speculated(0)


def test_a_twin_that_asks_under_another_key_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law has teeth: early answers with the noise of another visit give another tree."""
    ask = EarlyRequests._ask

    async def broken(self: Any, request: Any, place: int, on_text: Any) -> Any:
        if isinstance(request, Request) and request.priority < 1:
            request = replace(request, key=replace(request.key, visit=request.key.visit + 1))
        return await ask(self, request, place, on_text)

    tree = [[[1, 2, 3], [4, 5]], [[6, 7], [8, 9, 10]], 11]
    expected = [run(KeyedBackend(tree, order), DFS(threshold=0.0))[0] for order in range(3)]
    monkeypatch.setattr(EarlyRequests, "_ask", broken)
    got = [run(KeyedBackend(tree, order), DFS(threshold=0.0), speculate=8)[0] for order in range(3)]
    assert got != expected
