"""What is particular to AB-MCTS and to budget-guided MCTS: when to go wider and when deeper."""

from __future__ import annotations

import random
from typing import Any

import pytest
from chain_tools import leaves, samples
from hypothesis import given
from hypothesis import strategies as st
from search_cases import inner, short, verifying
from synthetic import TreeBackend, solve, trees

from treeagent import Budget, Explorer, Judgement, Request, Search, Thought
from treeagent.strategies.ab_mcts import ABMCTS, Branch, _add, _pick
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.mcts import MCTS

# AB-MCTS


def thought(id: int, value: float | None, *, terminal: bool = False) -> Thought:
    return Thought(id, 0, "", str(id), str(id), 1, terminal=terminal, judgement=Judgement(value))


def test_thompson_sampling_weighs_wider_against_deeper() -> None:
    """After good children it goes deeper into the best; where new samples disappoint it goes wider less often."""

    def wider(values: list[float], deep: list[float]) -> float:
        root = Branch(thought(0, None))
        _add(root, [thought(index + 1, value) for index, value in enumerate(values)], 0.0)
        for child in root.children:
            child.below += deep
        scale, rng = [0.0, 1.0], random.Random(0)
        return sum(_pick(root, scale, rng) is root for _ in range(1000)) / 1000

    assert wider([1.0] * 6, [0.0] * 20) > 0.9
    assert wider([0.0] * 6, [1.0] * 20) < 0.3
    assert wider([0.5], []) == pytest.approx(0.5, abs=0.08)  # the same is known of both


def test_every_judgement_counts_once_on_its_way_up() -> None:
    """A child's judgement is known to its parent as one of a new sample, and to all above as one of below."""
    root = Branch(thought(0, None))
    _add(root, [thought(1, 5.0)], 0.0)
    _add(root.children[0], [thought(2, 7.0), thought(3, None)], 0.0)
    _add(root.children[0].children[0], [], 1.0)
    child, grandchild = root.children[0], root.children[0].children[0]
    assert (root.wider, root.below) == ([5.0], [5.0, 7.0, 1.0])
    assert (child.wider, child.below) == ([7.0], [5.0, 7.0, 1.0])
    assert (grandchild.wider, grandchild.below) == ([1.0], [7.0, 1.0])


def test_ab_mcts_goes_wider_at_the_same_thought() -> None:
    """The root is asked again, by a key of its own, where other searches expand a thought once."""
    backend = TreeBackend([1, 2, 3])
    solve(backend, ABMCTS(simulations=8, parallel=2))
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    assert [(request.key.place, request.key.visit, request.n) for request in asked] == [
        ("root", visit, 1) for visit in range(8)
    ]


@pytest.mark.parametrize("search", [ABMCTS(simulations=200, by="propose"), BudgetGuidedMCTS(simulations=200)], ids=str)
@short
@given(tree=trees(), data=st.data())
def test_they_stop_at_a_verified_thought(search: Search, tree: Any, data: st.DataObject) -> None:
    """As soon as a finished thought verifies, its answer is written and nothing more is expanded."""
    right = data.draw(st.sampled_from(leaves(tree)))
    backend = TreeBackend(tree)
    result = solve(backend, search, task=verifying(right))
    assert (result.answer, result.solved) == (right, True)
    assert backend.prompts("answer") == [f"answer of {right}\n"]


# MCTS that widens and knows its budget


@short
@given(trees(), st.integers(1, 40), st.integers(1, 4))
def test_a_widening_search_does_all_its_simulations(tree: Any, simulations: int, parallel: int) -> None:
    """A tree whose ends are all known is asked again from the top, and no state is judged twice."""
    backend = TreeBackend(tree)
    solve(backend, MCTS(simulations=simulations, parallel=parallel, widen=True))
    assert len(backend.prompts("children")) + len(samples(backend)) == simulations
    assert len(backend.prompts("value")) == len(set(backend.prompts("value")))
    first = backend.prompts("children")
    assert len(first) == len(set(first)) == min(simulations, inner(tree))


def test_widening_finds_what_the_first_list_did_not_have() -> None:
    """A list that lacks the best step is complemented by samples, where plain MCTS stops with the tree."""
    tree = [[[3, 5]], [[29, 4]]]

    def only_the_first(request: Request) -> str | None:
        return "ra" if request.prompt == "children of r\n" else None

    plain, wide = (TreeBackend(tree, answer=only_the_first) for _ in range(2))
    assert solve(plain, MCTS()).answer == "raab"
    assert solve(wide, MCTS(widen=True)).answer == "rbaa"


def test_a_guided_search_narrows_with_its_budget() -> None:
    """The share of the budget that is left scales the rounds: broad at first, one leaf at the end."""
    rounds: list[tuple[float, int]] = []

    class Watched(BudgetGuidedMCTS):
        async def run(self, explorer: Explorer) -> Thought | None:
            grow = explorer.grow

            async def watch(thoughts: Any, **how: Any) -> Any:
                rounds.append((explorer.spent, len(thoughts)))
                return await grow(thoughts, **how)

            explorer.grow = watch  # type: ignore[method-assign]
            return await super().run(explorer)

    tree = [[[[9 * i + 3 * j + k] for k in range(3)] for j in range(3)] for i in range(3)]
    result = solve(TreeBackend(tree), Watched(simulations=1000, parallel=4), budget=Budget(calls=60))
    assert result.ended == "calls"
    spent = [share for share, _ in rounds]
    assert spent == sorted(spent)
    assert spent[0] == 0.0
    assert spent[-1] > 0.75
    assert max(size for share, size in rounds if share < 0.3) == 3
    assert {size for share, size in rounds if share > 0.9} <= {1}


@pytest.mark.parametrize("seed", range(4))
def test_a_guided_search_finishes_among_equals(seed: int) -> None:
    """Where all states look alike, UCT tries each first step in turn; the guided search comes to an end in time."""
    tree = [[[[1], [2], [3], [4]] for _ in range(4)] for _ in range(4)]
    deepest = {}
    for search in (MCTS(simulations=1000, parallel=1), BudgetGuidedMCTS(simulations=1000, parallel=1)):
        backend = TreeBackend(tree, judge=lambda name, node: "v5")
        result = solve(backend, search, budget=Budget(calls=30), seed=seed)
        deepest[type(search)] = max(thought.depth for thought in result.tree)
    assert deepest[BudgetGuidedMCTS] > deepest[MCTS]


@pytest.mark.parametrize(
    ("budget", "share"),
    [
        (Budget(), 0.0),
        (Budget(calls=8), 0.5),
        (Budget(nodes=4), 0.75),
        (Budget(calls=8, nodes=4), 0.75),
        (Budget(seconds=1e9), 0.0),
        (Budget(tokens=100_000), pytest.approx(27e-5)),
        (Budget(dollars=1e4), pytest.approx(27e-4)),
    ],
)
def test_the_spent_share_is_that_of_the_tightest_limit(budget: Budget, share: Any) -> None:
    """Calls, tokens, thoughts and dollars count; seconds do not, or a clock would decide on the tree."""
    seen: list[float] = []

    class Looks(Search):
        async def run(self, explorer: Explorer) -> Thought | None:
            await explorer.grow([explorer.root])
            seen.append(explorer.spent)
            return None

    solve(TreeBackend([1, 2, 3], price=(1.0, 1.0)), Looks(), budget=budget)
    assert seen == [share]
