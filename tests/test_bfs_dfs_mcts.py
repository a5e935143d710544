"""BFS, DFS and MCTS on synthetic trees with a known optimum."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import inner, short, verifying, widest
from synthetic import TreeBackend, best, named, optimum, solve, task, trees

from treeagent import Budget, Explorer, Thought
from treeagent.strategies import mcts
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.mcts import MCTS

# Breadth first


@short
@given(trees(), st.data())
def test_bfs_with_a_wide_beam_finds_the_optimum(tree: Any, data: st.DataObject) -> None:
    """A beam as wide as a level loses nothing, whatever the judge thinks of unfinished thoughts."""
    moods = {name: data.draw(st.integers(0, 30)) for name, node in named(tree).items() if isinstance(node, list)}
    backend = TreeBackend(tree, judge=lambda name, node: f"v{moods.get(name, node)}")
    result = solve(backend, BFS(b=widest(tree)))
    assert (result.answer, result.ended) == (optimum(tree), "finished")


@short
@given(trees())
def test_bfs_with_a_perfect_judge_needs_a_beam_of_one(tree: Any) -> None:
    """A judge that knows the best leaf below leads straight to it, and only kept thoughts are expanded."""
    backend = TreeBackend(tree)
    result = solve(backend, BFS(b=1))
    assert result.answer == optimum(tree)
    assert len(backend.prompts("children")) == len(result.path)


def test_bfs_keeps_b_thoughts_a_level_and_finished_ones_compete() -> None:
    """The beam holds the b best of a level together with finished thoughts of earlier levels."""
    backend = TreeBackend([[[1], [2]], 25, [[29], [3]], [[4], [5]]])
    result = solve(backend, BFS(b=2))
    assert backend.prompts("children") == [f"children of {name}\n" for name in ("r", "rc", "rca")]
    assert result.answer == "rcaa"


def test_bfs_ends_with_the_best_attempt_when_nothing_is_left() -> None:
    """A beam that dies out is no error: no answer, and the deepest path so far."""
    backend = TreeBackend([[1], [2]], answer=lambda request: "nonsense" if "children of ra" in request.prompt else None)
    result = solve(backend, BFS(b=1), task=task(), budget=Budget(nodes=2))
    assert (result.answer, result.solved, result.path, result.ended) == (None, None, ("rb",), "nodes")


# Depth first


@short
@given(trees())
def test_dfs_finds_an_accepted_leaf_at_a_threshold_on_the_optimum_path(tree: Any) -> None:
    """With the threshold at the optimum's value only its lineage is followed."""
    backend = TreeBackend(tree)
    result = solve(backend, DFS(threshold=float(best(tree))))
    assert result.answer == optimum(tree)
    assert len(backend.prompts("children")) == len(result.path)


@short
@given(trees(), st.data())
def test_dfs_visits_best_first_and_backtracks(tree: Any, data: st.DataObject) -> None:
    """Children are tried by value, the earliest of equals first, and the search goes back when nothing is left."""
    values = {name: data.draw(st.integers(0, 3)) for name in named(tree)}
    threshold = data.draw(st.integers(0, 2))
    leaves = [name for name, node in named(tree).items() if not isinstance(node, list)]
    right = data.draw(st.sampled_from([*leaves, "none"]))

    expected: list[str] = []

    def visit(name: str, node: Any) -> bool:
        expected.append(name)
        if not isinstance(node, list):
            return name == right
        children = [(name + chr(97 + i), child) for i, child in enumerate(node)]
        children = [child for child in children if values[child[0]] >= threshold]
        return any(visit(*child) for child in sorted(children, key=lambda child: -values[child[0]]))

    found = visit("r", tree)
    backend = TreeBackend(tree, judge=lambda name, node: f"v{values[name]}")
    result = solve(backend, DFS(threshold=threshold), task=verifying(right))
    asked = [request.prompt.split()[-1] for request in backend.requests if request.prompt[:6] in ("childr", "answer")]
    assert asked == expected
    assert result.solved is found
    assert result.answer == (right if found else next((name for name in expected if name in leaves), None))


def test_dfs_keeps_children_beyond_its_width_for_the_very_end() -> None:
    """The best ``width`` children of every thought are followed before any other child is: nothing is lost."""
    backend = TreeBackend([1, [2, 9, 8], 3, [7]])
    solve(backend, DFS(threshold=0, width=2), task=verifying("none"))
    asked = [prompt.split()[-1] for prompt in backend.prompts("answer")]
    assert set(asked[:3]) == {"rbb", "rbc", "rda"}
    assert set(asked[3:]) == {"ra", "rba", "rc"}


# Monte Carlo


@pytest.mark.parametrize("output", ["max_value", "max_visits", "best_path"])
@pytest.mark.parametrize("parallel", [1, 4])
@settings(max_examples=12, deadline=None)
@given(tree=trees(), seed=st.integers(0, 3))
def test_mcts_with_enough_simulations_finds_the_optimum(tree: Any, seed: int, parallel: int, output: Any) -> None:
    """Every unfinished thought expanded once: the whole tree is known, and the search stops by itself."""
    backend = TreeBackend(tree)
    result = solve(backend, MCTS(simulations=1000, parallel=parallel, output=output), seed=seed)
    assert result.answer == optimum(tree)
    assert len(backend.prompts("children")) == inner(tree)


@pytest.mark.parametrize("parallel", [1, 4])
@short
@given(tree=trees(), simulations=st.integers(1, 6))
def test_mcts_picks_distinct_leaves_and_undoes_its_virtual_loss(tree: Any, simulations: int, parallel: int) -> None:
    """A round's leaves differ, no more simulations run than asked for, and nothing stays pending."""
    nodes: list[mcts.Node] = []

    class Spy(mcts.Node):
        __slots__ = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            nodes.append(self)

    class Watched(MCTS):
        async def run(self, explorer: Explorer) -> Thought | None:
            grow = explorer.grow

            async def watch(thoughts: Any, **how: Any) -> Any:
                assert 1 <= len({thought.id for thought in thoughts}) == len(thoughts) <= parallel
                assert sum(node.pending for node in nodes if node.parent is None) == len(thoughts)
                return await grow(thoughts, **how)

            explorer.grow = watch  # type: ignore[method-assign]
            return await super().run(explorer)

    backend = TreeBackend(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mcts, "Node", Spy)
        solve(backend, Watched(simulations=simulations, parallel=parallel))
    expansions = backend.prompts("children")
    assert len(expansions) == len(set(expansions)) == min(simulations, inner(tree))
    assert all(node.pending == 0 for node in nodes)
    assert nodes[0].visits == len(expansions)


def test_mcts_follows_uct_as_the_textbook_says() -> None:
    """Best child first, then exploration: a lesser child is tried once the better one has been visited enough."""
    tree = [[[[20]], [[19]]], [[[10]], [[9]]]]
    greedy, curious = TreeBackend(tree), TreeBackend(tree)
    solve(greedy, MCTS(simulations=5, parallel=1, c=0.0))
    solve(curious, MCTS(simulations=5, parallel=1, c=50.0))
    assert [prompt.split()[-1] for prompt in greedy.prompts("children")] == ["r", "ra", "raa", "raaa", "rab"]
    assert {prompt.split()[-1] for prompt in curious.prompts("children")[1:3]} == {"ra", "rb"}


def test_mcts_is_deterministic_under_a_seed_and_the_seed_breaks_ties() -> None:
    """Equal children are told apart by the seed alone."""
    tree = [[[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]]]

    def order(seed: int) -> list[str]:
        backend = TreeBackend(tree, judge=lambda name, node: "v1")
        solve(backend, MCTS(simulations=6, parallel=2), seed=seed)
        return backend.prompts("children")

    orders = [order(seed) for seed in range(6)]
    assert orders == [order(seed) for seed in range(6)]
    assert len({tuple(each) for each in orders}) > 1


@short
@given(trees(), st.data())
def test_mcts_stops_at_a_verified_thought(tree: Any, data: st.DataObject) -> None:
    """As soon as a finished thought verifies, its answer is written and nothing more is expanded."""
    leaves = [name for name, node in named(tree).items() if not isinstance(node, list)]
    right = data.draw(st.sampled_from(leaves))
    backend = TreeBackend(tree)
    result = solve(backend, MCTS(simulations=100, parallel=1), task=verifying(right))
    assert (result.answer, result.solved) == (right, True)
    assert backend.prompts("children")[-1] == f"children of {right[:-1]}\n"
    assert backend.prompts("answer") == [f"answer of {right}\n"]


@pytest.mark.parametrize("output", ["max_visits", "best_path"])
def test_mcts_outputs_never_prefer_an_unparsed_thought(output: Any) -> None:
    """An unknown value is no 0: below zero, too, a known one is preferred."""
    scale = task(**{"v1: 1,": "v1: -1,", "v2: 2,": "v2: -2,"})
    judge = {"ra": "hm", "rb": "v2", "rc": "hm"}
    backend = TreeBackend([5, 6, [[7]]], judge=lambda name, node: judge.get(name, "hm"))
    result = solve(backend, MCTS(simulations=1, parallel=1, output=output), task=scale)
    assert result.answer == "rb"
