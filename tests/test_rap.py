"""What is particular to RAP, on synthetic trees."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_trees import backend_of, expanded, judged_trees
from search_cases import inner, short, verifying
from synthetic import TreeBackend, named, optimum, solve, trees

from treeagent import Event, Request, Search
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.rap import RAP, Step


class Walks(RAP):
    """Remembers every path that was walked."""

    paths: ClassVar[list[list[Step]]] = []

    @staticmethod
    def _back_up(path: list[Step], worst: float) -> None:
        Walks.paths.append(path)
        RAP._back_up(path, worst)


@short
@given(judged_trees(), st.integers(1, 8))
def test_rap_backs_up_the_best_mean_of_rewards(drawn: Any, iterations: int) -> None:
    """Q is the highest mean of known rewards from a step to the end, over the paths that were walked through it."""
    tree, values = drawn
    Walks.paths = []
    result = solve(backend_of(tree, values), Walks(iterations=iterations))
    assert 1 <= len(Walks.paths) <= iterations
    for step in {id(step): step for path in Walks.paths for step in path}.values():
        through = [path[path.index(step) :] for path in Walks.paths if step in path]
        known = [[each.thought.value for each in tail if each.thought.value is not None] for tail in through]
        means = [fmean(each) for each in known if each]
        assert step.visits == len(through)
        assert step.q == (max(means) if means else None)
    ends = [path[-1].thought.state for path in Walks.paths]
    assert len(ends) == len(set(ends))
    assert all(path[-1].thought.terminal for path in Walks.paths)
    assert result.answer is not None


@short
@given(trees())
def test_rap_simulates_by_reward_to_the_end(tree: Any) -> None:
    """One iteration with a perfect reward walks straight to the optimum."""
    backend = TreeBackend(tree)
    result = solve(backend, RAP(iterations=1))
    assert result.answer == optimum(tree)
    assert len(expanded(backend)) == len(result.path)


@short
@given(judged_trees(unparsed=False))
def test_rap_with_enough_iterations_visits_the_whole_tree(drawn: Any) -> None:
    """Every unfinished thought is expanded once, then it stops; the path of highest mean reward wins."""
    tree, values = drawn
    backend = backend_of(tree, values)
    result = solve(backend, RAP(iterations=1000))
    assert len(expanded(backend)) == inner(tree)
    leaves = [name for name, node in named(tree).items() if not isinstance(node, list)]

    def mean(leaf: str) -> float:
        return fmean(values[leaf[:end]] or 0 for end in range(2, len(leaf) + 1))

    assert mean(result.answer) == max(map(mean, leaves))  # type: ignore[arg-type]


def test_rap_explores_by_its_constant() -> None:
    """By UCT: without exploration the second path stays below the better child, with much it begins elsewhere."""
    tree = [[[20], [19]], [[10], [9]]]
    paths = {}
    for w in (0.0, 50.0):
        backend = TreeBackend(tree)
        solve(backend, RAP(iterations=2, w=w))
        paths[w] = expanded(backend)
    assert paths == {0.0: ["r", "ra", "raa", "rab"], 50.0: ["r", "ra", "raa", "rb", "rba"]}


def test_a_dead_end_is_worth_the_worst_reward_to_rap() -> None:
    """A path that ends in nothing is not worth what its steps promised, so the next one begins elsewhere."""

    def answer(request: Request) -> str | None:
        return "nothing!" if request.prompt == "children of raa\n" else None

    backend = TreeBackend([[[1], [2]], [[3]]], answer=answer, judge=lambda name, node: judge[name])
    judge = {"ra": "v20", "raa": "v19", "rab": "v1", "rb": "v16", "rba": "v16", "raba": "v5", "rbaa": "v6"}
    result = solve(backend, RAP(iterations=2, w=0.0))
    assert expanded(backend) == ["r", "ra", "raa", "rb", "rba"]
    assert result.answer == "rbaa"


@short
@given(trees(), st.data())
def test_rap_stops_at_a_verified_thought(tree: Any, data: st.DataObject) -> None:
    """As soon as a finished thought verifies, its answer is written and nothing more is expanded."""
    right = data.draw(st.sampled_from([name for name, node in named(tree).items() if not isinstance(node, list)]))
    backend = TreeBackend(tree)
    result = solve(backend, RAP(iterations=1000), task=verifying(right))
    assert (result.answer, result.solved) == (right, True)
    assert expanded(backend)[-1] == right[:-1]
    assert backend.prompts("answer") == [f"answer of {right}\n"]


@pytest.mark.parametrize("search", [MCTS(simulations=9, parallel=2), RAP(iterations=4)])
def test_visits_are_reported_for_whole_paths(search: Search) -> None:
    """Each report has the way to the root, which is visited once more than before; its end has the last means."""
    events: list[Event] = []
    result = solve(TreeBackend([[[[20]], [[19]]], [[[10]], [[9]]]]), search, on_event=events.append)
    reports = [event.data for event in events if event.type == "visited"]
    for number, data in enumerate(reports, 1):
        ids = sorted(data["ids"])
        assert [result.tree[id].parent for id in ids] == [None, *ids[:-1]]
        visits = dict(zip(data["ids"], data["visits"], strict=True))
        assert (visits[0], min(visits.values()) >= 1) == (number, True)
    assert len(reports) > 2
    assert all(mean is None or math.isfinite(mean) for data in reports for mean in data["means"])
