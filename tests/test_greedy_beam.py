"""What is particular to greedy, beam and best-first, on synthetic trees."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_trees import backend_of, children, expanded, judged_trees, order, walk
from search_cases import short, verifying, widest
from synthetic import TreeBackend, named, optimum, solve, task, trees

from treeagent import ConfigError
from treeagent.strategies.beam import Beam
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.bfs import BFS
from treeagent.strategies.greedy import Greedy

# Greedy and beam


@short
@given(judged_trees())
def test_greedy_follows_the_best_child(drawn: Any) -> None:
    """One path, the first of equals, unknown values last."""
    tree, values = drawn
    backend = backend_of(tree, values)
    path = walk(tree, values, "r")
    assert solve(backend, Greedy()).answer == path[-1]
    assert expanded(backend) == path[:-1]


@pytest.mark.parametrize("score", ["mean", "prod", "min", "last"])
@settings(max_examples=12, deadline=None)
@given(drawn=judged_trees())
def test_a_beam_of_one_is_greedy(score: Any, drawn: Any) -> None:
    """Siblings share their path, so whatever a path's score is, the best last step wins."""
    beam, greedy = backend_of(*drawn), backend_of(*drawn)
    assert solve(beam, Beam(b=1, score=score)).answer == solve(greedy, Greedy()).answer
    assert beam.prompts("") == greedy.prompts("")


@short
@given(judged_trees(), st.integers(1, 4))
def test_a_beam_by_the_last_step_is_bfs(drawn: Any, b: int) -> None:
    """With ``score=last`` a path is worth its last state: the same requests, the same tree, the same answer."""
    beam, bfs = backend_of(*drawn), backend_of(*drawn)
    results = solve(beam, Beam(b=b, score="last")), solve(bfs, BFS(b=b))
    assert results[0].answer == results[1].answer
    assert beam.prompts("") == bfs.prompts("")


@pytest.mark.parametrize(("score", "made"), [("mean", fmean), ("prod", math.prod), ("min", min)])
@settings(max_examples=12, deadline=None)
@given(drawn=judged_trees())
def test_a_wide_beam_finds_the_path_of_the_best_steps(score: Any, made: Any, drawn: Any) -> None:
    """Unknown steps are left out of a path's score; a path whose last step is unknown comes after all others."""
    tree, values = drawn

    def worth(leaf: str) -> tuple[bool, float, int]:
        known = [value for end in range(2, len(leaf) + 1) if (value := values[leaf[:end]]) is not None]
        last = values[leaf]
        return (False, 0.0, 0) if last is None else (True, made(known), last)

    answer = solve(backend_of(tree, values), Beam(b=widest(tree), score=score)).answer
    assert worth(answer) == max(worth(name) for name, node in named(tree).items() if not isinstance(node, list))


def test_a_beam_remembers_a_doubtful_step() -> None:
    """Where bfs prefers the better last state, a beam prefers the path without a weak step."""
    values: dict[str, int | None] = {"ra": 10, "rb": 2, "raa": 5, "rba": 6}
    tree = [[1], [2]]
    assert solve(backend_of(tree, values), BFS(b=2)).answer == "rba"
    assert {solve(backend_of(tree, values), Beam(b=2, score=score)).answer for score in ("mean", "prod", "min")} == {
        "raa"
    }


def test_a_beam_keeps_b_paths_and_finished_ones_compete() -> None:
    """No more than ``b`` thoughts of a level are expanded."""
    backend = TreeBackend([[[1], [2]], 25, [[29], [3]], [[4], [5]]])
    assert solve(backend, Beam(b=2)).answer == "rcaa"
    assert expanded(backend) == ["r", "rc", "rca"]


def test_products_of_scores_below_zero_are_refused() -> None:
    """Two bad steps would make a good path; the other scores have no such trouble."""
    scale = task(**{"v1: 1,": "v1: -1,"})
    with pytest.raises(ConfigError, match=r"evaluate\.labels"):
        solve(TreeBackend([1]), Beam(score="prod"), task=scale)
    assert solve(TreeBackend([1]), Beam(), task=scale).answer == "ra"


# Best-first


@short
@given(trees())
def test_best_first_with_a_perfect_heuristic_goes_straight_to_the_goal(tree: Any) -> None:
    """It expands the optimum's ancestors and nothing else."""
    backend = TreeBackend(tree)
    result = solve(backend, BestFirst())
    assert result.answer == optimum(tree)
    assert expanded(backend) == [result.answer[:end] for end in range(1, len(result.answer))]


@short
@given(judged_trees(), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_best_first_expands_in_order_of_value(drawn: Any, expansions: int, parallel: int, checked: bool) -> None:
    """The best of the whole frontier, the newest of equals; finished ones are tried when it is their turn."""
    tree, values = drawn
    frontier, opened, tried, left = ["r"], [], [], expansions
    while frontier and (checked or not tried):
        if not children(tree, frontier[0]):
            tried.append(frontier.pop(0))
            continue
        batch = [name for name in frontier[:parallel] if children(tree, name)][:left]
        opened += batch
        left -= len(batch)
        new = [child for name in batch for child in children(tree, name)]
        frontier = sorted(
            [*new, *(name for name in frontier if name not in batch)], key=lambda name: order(values[name])
        )
        if not left:
            frontier = [name for name in frontier if not children(tree, name)][:2]
    backend = backend_of(tree, values)
    result = solve(
        backend,
        BestFirst(expansions=expansions, parallel=parallel, candidates=2),
        task=verifying() if checked else task(),
    )
    assert expanded(backend) == opened
    assert [prompt.split()[-1] for prompt in backend.prompts("answer")] == tried
    assert result.answer == next(iter(tried), None)
    assert len(opened) <= expansions


def test_best_first_goes_on_after_a_finished_thought_that_is_refused() -> None:
    """The best finished thought does not verify, so the next best thought of the frontier is looked at."""
    backend = TreeBackend([29, [[20]], 25])
    result = solve(backend, BestFirst(), task=verifying("rbaa"))
    assert (result.answer, result.solved) == ("rbaa", True)
    assert [prompt.split()[-1] for prompt in backend.prompts("answer")] == ["ra", "rc", "rbaa"]
