"""What is particular to greedy, beam, best-first, DVTS, REBASE and RAP, on synthetic trees."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TreeBackend, best, named, optimum, solve, task, trees
from test_searches import inner, verifying, widest

from treeagent import ConfigError, Event, Request, Result, Search, Thought
from treeagent.strategies.allotment import allotment
from treeagent.strategies.beam import Beam
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dvts import DVTS
from treeagent.strategies.greedy import Greedy
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.rap import RAP, Step
from treeagent.strategies.rebase import Rebase

short = settings(max_examples=25, deadline=None)


@st.composite
def judged_trees(draw: st.DrawFn, unparsed: bool = True) -> tuple[Any, dict[str, int | None]]:
    """A tree, and what a judge with few values says of each node; None is unparsed."""
    tree = draw(trees())
    said = st.integers(0, 4) | st.none() if unparsed else st.integers(0, 4)
    return tree, {name: draw(said) for name in named(tree) if name != "r"}


def backend_of(tree: Any, values: dict[str, int | None]) -> TreeBackend:
    return TreeBackend(tree, judge=lambda name, node: "hm" if values[name] is None else f"v{values[name]}")


def expanded(backend: TreeBackend) -> list[str]:
    """The nodes whose children were asked for, in order."""
    return [prompt.split()[2 if prompt.startswith("children") else 3] for prompt in backend.prompts("ch")]


def children(tree: Any, name: str) -> list[str]:
    node = named(tree)[name]
    return [name + chr(97 + index) for index in range(len(node))] if isinstance(node, list) else []


def order(value: int | None) -> tuple[bool, int]:
    """What a search sorts by: best first, unknown last."""
    return value is None, -(value or 0)


def walk(tree: Any, values: dict[str, int | None], name: str) -> list[str]:
    """From a node down the best children, the first of equals."""
    path = [name]
    while below := children(tree, path[-1]):
        path.append(min(below, key=lambda child: order(values[child])))
    return path


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


# DVTS


@short
@given(judged_trees(), st.integers(1, 4))
def test_dvts_grows_each_subtree_as_if_it_were_alone(drawn: Any, subtrees: int) -> None:
    """First steps are dealt out; each subtree is greedy from the best of its own; the best end wins."""
    tree, values = drawn
    first = children(tree, "r")
    leaders = [
        min(share, key=lambda name: order(values[name])) for i in range(subtrees) if (share := first[i::subtrees])
    ]
    walks = [walk(tree, values, leader) for leader in leaders]
    backend = backend_of(tree, values)
    result = solve(backend, DVTS(subtrees=subtrees))
    assert sorted(expanded(backend)) == sorted(["r", *(name for each in walks for name in each[:-1])])
    assert result.answer == min((each[-1] for each in walks), key=lambda name: order(values[name]))


def test_dvts_subtrees_do_not_take_each_others_states() -> None:
    """A state that one subtree has seen and left is still there for another, and is no duplicate."""
    lists = {"r": "ra\nrb", "ra": "rx\nry", "rb": "rx\nrz", "ry": "rp end", "rx": "rq end", "rz": "rr end"}
    judge = {"ra": 9, "rb": 8, "rx": 3, "ry": 7, "rz": 1, "rp": 5, "rq": 20, "rr": 0}

    def answer(request: Request) -> str | None:
        name = request.prompt.split()[-1]
        return lists[name] if request.prompt.startswith("children") else None

    backend = TreeBackend([], judge=lambda name, node: f"v{judge[name]}", answer=answer)
    backend._nodes |= dict.fromkeys(judge, 0)
    result = solve(backend, DVTS(subtrees=2), task=task(**{"name.startswith(parent)": "true"}))
    assert (result.path, result.counts.duplicates) == (("rb", "rx", "rq end"), 0)


def test_dvts_samples_first_steps_for_every_subtree() -> None:
    """As many samples as subtrees need, under keys of their own; a list that is proposed is asked for once."""
    sampled, proposed = TreeBackend([1, 2, 3, 4]), TreeBackend([1, 2, 3, 4])
    solve(sampled, DVTS(subtrees=3, by="sample", k=2))
    solve(proposed, DVTS(subtrees=3))
    asked = [request for request in sampled.requests if isinstance(request, Request) and request.key.role == "sample"]
    assert [(request.n, request.key.visit) for request in asked] == [(2, 0), (2, 1), (2, 2)]
    assert len(proposed.prompts("children")) == 1


# REBASE

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


# RAP


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


# The number of requests


@pytest.mark.parametrize(
    ("search", "expansions"),
    [(Greedy(), 3), (Beam(b=2), 5), (BestFirst(expansions=4), 3), (DVTS(subtrees=3), 7), (RAP(iterations=2), 4)],
    ids=str,
)
def test_the_manuals_table_of_costs(search: Search, expansions: int) -> None:
    """On a full tree of depth 3 and width 3: one expansion a step, b a level, one a step and subtree."""
    tree: Any = [[[27 - 9 * i - 3 * j - k for k in range(3)] for j in range(3)] for i in range(3)]
    backend = TreeBackend(tree)
    result: Result = solve(backend, search)
    assert len(expanded(backend)) == expansions
    assert best(tree) == 27
    thought: Thought | None = result.thought
    assert thought is not None
    assert thought.state == "raaa"


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
