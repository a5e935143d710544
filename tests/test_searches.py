"""What every search keeps to on synthetic trees: order of replies, budgets, scales, unknown judgements."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import ENOUGH, JUDGED, LAZY, REGISTERED, SEARCHES, short, verifying
from synthetic import TreeBackend, best, essence, named, optimum, solve, task, trees

from treeagent import Agent, Budget, ConfigError, Request, Result, Search, Task, Thought, registry
from treeagent.strategies import mcts
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.mcts import MCTS

# Order of completion


@settings(max_examples=40, deadline=None)
@given(
    tree=trees(),
    search=st.sampled_from(SEARCHES),
    evaluator=st.sampled_from(
        ["value", "choice", "vote", "likelihood", "reward", "generative", "pairwise", "outcome", "prm"]
    ),
    orders=st.lists(st.integers(0, 10**6), min_size=2, max_size=3, unique=True),
    gaps=st.integers(0, 3),
)
def test_the_order_of_completion_changes_nothing(
    tree: Any, search: Search, evaluator: str, orders: list[int], gaps: int
) -> None:
    """The same tree, judgements, answer and bill, whatever order replies arrive in."""

    def judge(name: str, node: Any) -> str:
        return "hm" if (len(name) + best(node)) % 4 < gaps else f"v{best(node)}"

    def answer(request: Request) -> str | None:
        return "I vote for 1, no, 2" if request.prompt.startswith("best") else None

    def run(order: int | None) -> Result:
        backend = TreeBackend(tree, order=order, judge=judge, answer=answer, price=(0.001, 0.0007))
        return solve(backend, search, evaluator)

    reference = essence(run(None))
    for order in orders:
        assert essence(run(order)) == reference


LIMITS = st.one_of(
    st.builds(Budget, calls=st.integers(0, 14)),
    st.builds(Budget, tokens=st.integers(0, 1500)),
    st.builds(Budget, nodes=st.integers(0, 8)),
    st.builds(Budget, dollars=st.floats(0, 1.2)),
    st.builds(Budget, calls=st.integers(2, 14), tokens=st.integers(300, 1500), nodes=st.integers(2, 8)),
)


@pytest.mark.exhaustive
@settings(max_examples=60, deadline=None)
@given(tree=trees(), search=st.sampled_from(SEARCHES), budget=LIMITS, orders=st.lists(st.integers(0, 999), min_size=2))
def test_a_budget_is_kept_and_cuts_at_the_same_place(tree: Any, search: Search, budget: Budget, orders: Any) -> None:
    """No limit is exceeded, and the order of completion does not move the cut."""

    def run(order: int | None) -> Result:
        backend = TreeBackend(tree, order=order, price=(0.001, 0.0007))
        result = solve(backend, search, budget=budget, task=small())
        usage, counts = result.usage, result.counts
        assert len(backend.requests) == usage.calls
        assert budget.calls is None or usage.calls <= budget.calls
        assert budget.tokens is None or (usage.tokens or 0) <= budget.tokens
        assert budget.nodes is None or counts.thoughts == len(result.tree) - 1 <= budget.nodes
        assert budget.dollars is None or (usage.dollars or 0) <= budget.dollars
        limits = {name for name in ("calls", "tokens", "nodes", "dollars") if getattr(budget, name) is not None}
        assert result.ended in {"finished", *limits}
        return result

    reference = essence(run(None))
    for order in orders[:3]:
        assert essence(run(order)) == reference


def small() -> Task:
    """The task with short completions, so that a small budget holds several."""
    roles = ("propose", "sample", "answer", "io", "cot", "vote", "critique", "outcome")
    lengths = "".join(f"\n  {role}: {{max_tokens: 20}}" for role in roles)
    return task(**{"  value: {n: 1}": "  value: {n: 1, max_tokens: 20}" + lengths})


# What every search keeps to


def test_every_search_of_ours_is_promised_to_find_the_optimum() -> None:
    """A search that is added has to say with which options a perfect judge leads it to the best leaf."""
    ours = {entry.name for entry in registry.entries("search") if entry.module.startswith("treeagent.")}
    assert {name for name in ours if REGISTERED[name].evaluates} == set(ENOUGH)


@pytest.mark.parametrize("name", sorted(ENOUGH))
@settings(max_examples=8, deadline=None)
@given(tree=trees(), seed=st.integers(0, 3))
def test_a_perfect_judge_leads_every_search_to_the_optimum(name: str, tree: Any, seed: int) -> None:
    """With enough budget; a level of finished thoughts alone is among the trees."""
    result = solve(TreeBackend(tree), ENOUGH[name], seed=seed)
    assert (result.answer, result.ended) == (optimum(tree), "finished")


@pytest.mark.parametrize("search", JUDGED, ids=str)
def test_a_level_of_finished_thoughts_ends_every_search(search: Search) -> None:
    """Nothing is left to expand, so nothing is asked for; a leaf is the answer."""
    backend = TreeBackend([3, 29, 12])
    result = solve(backend, search)
    assert set(backend.prompts("children") + backend.prompts("a child")) <= {"children of r\n", "a child of r after \n"}
    assert (result.answer, result.ended) in {(leaf, "finished") for leaf in ("ra", "rb", "rc")}
    assert result.answer == "rb" or getattr(search, "k", None) or getattr(search, "by", None)


@pytest.mark.parametrize("search", JUDGED, ids=str)
def test_an_expansion_without_a_step_is_no_error(search: Search) -> None:
    """Where a model proposes nothing that can be read, at the root or below it, a search ends without an answer."""

    def barren(request: Request) -> str | None:
        return "nothing!" if request.key.role in ("propose", "sample") and request.key.place != "root" else None

    for answer in (barren, lambda request: "nothing!"):
        result = solve(TreeBackend([[14, 15]] * 3, answer=answer), search)
        assert (result.answer, result.ended) == (None, "finished")
        assert result.counts.unparsed


@pytest.mark.parametrize("search", [*ENOUGH.values(), DFS(threshold=-9)], ids=str)
def test_no_search_takes_an_unparsed_judgement_for_a_zero(search: Search) -> None:
    """On a scale below zero a known value goes before an unknown one."""
    if search == ENOUGH["dfs"]:
        pytest.skip("prunes what is known to be below its threshold")
    scale = task(**{"v1: 1,": "v1: -1,", "v2: 2,": "v2: -2,"})
    judge = {"ra": "hm", "rb": "v2", "rc": "hm"}
    result = solve(TreeBackend([5, 6, 7], judge=lambda name, node: judge[name]), search, task=scale)
    assert result.answer == "rb"


@pytest.mark.parametrize("search", JUDGED, ids=str)
def test_a_state_that_is_proposed_again_changes_nothing(search: Search) -> None:
    """Duplicates are counted and dropped: the same states are expanded and judged, each once, and the answer stays."""
    tree = [[[3, 17], 4], 5, [[6], [29, 2]]]

    def asked(times: int) -> tuple[Any, ...]:
        def answer(request: Request) -> str | None:
            if not request.prompt.startswith("children"):
                return None
            return "\n".join(line for line in plain._text(request, 0).splitlines() for _ in range(times))

        backend, plain = TreeBackend(tree, answer=answer), TreeBackend(tree)
        result = solve(backend, search)
        judged = backend.prompts("value")
        assert len(judged) == len(set(judged))
        assert len(judged) == len(result.tree) - 1 or isinstance(search, LAZY)
        if times > 1 and backend.prompts("children"):
            assert result.counts.duplicates
        return result.answer, backend.prompts(""), [thought.state for thought in result.tree]

    assert asked(1) == asked(3)


@pytest.mark.parametrize("name", ["mcts", "rebase", "rap"])
def test_the_scale_of_the_judge_changes_nothing(name: str) -> None:
    """Searches that weigh values against each other see them between the worst and the best."""
    tree = [[[3, 17], [4, 9]], [[21]], [[6], [29, 2]], [[[8], 7]]]
    judge = {name: f"v{(7 * len(name) + best(node)) % 31}" for name, node in named(tree).items()}

    def asked(factor: int) -> list[str]:
        labels = ", ".join(f"v{value}: {{}}" for value in range(31))
        scale = task(**{labels.format(*range(31)): labels.format(*range(5, 31 * factor + 5, factor))})
        backend = TreeBackend(tree, judge=lambda name, node: judge[name])
        solve(backend, REGISTERED[name], task=scale)
        return backend.prompts("")

    assert asked(1) == asked(100)


# Judgements that do not parse


@short
@given(trees(), st.sampled_from(JUDGED))
def test_a_judge_that_never_parses_is_counted_and_no_value(tree: Any, search: Search) -> None:
    """Unparsed is None and counted; the search goes on and finds some leaf."""
    result = solve(TreeBackend(tree, judge=lambda name, node: "who knows"), search)
    assert {thought.value for thought in result.tree} == {None}
    assert result.counts.judgements_unparsed == result.counts.judged
    leaves = [name for name, node in named(tree).items() if not isinstance(node, list)]
    if not isinstance(search, (MCTS, ABMCTS)):  # whose simulations may be used up on the way
        assert result.answer in leaves
    if not isinstance(search, (MCTS, ABMCTS, *LAZY)):
        assert result.counts.judged == len(result.tree) - 1


def test_an_unparsed_judgement_ranks_last_and_is_never_pruned_by_dfs() -> None:
    """DFS tries the unknown child after the known ones, although the threshold is above everything unknown."""
    judge = {"ra": "hm", "rb": "v9", "rc": "v5", "rd": "v10"}
    backend = TreeBackend([1, 2, 3, 4], judge=lambda name, node: judge[name])
    solve(backend, DFS(threshold=8), task=verifying("none"))
    assert [prompt.split()[-1] for prompt in backend.prompts("answer")] == ["rd", "rb", "ra"]


def test_an_unparsed_judgement_is_no_zero_in_the_means_of_mcts() -> None:
    """A simulation whose children are all unparsed adds a visit, and no value."""
    nodes: dict[str, mcts.Node] = {}

    class Spy(mcts.Node):
        __slots__ = ()

        def __init__(self, thought: Thought, *args: Any, **kwargs: Any) -> None:
            super().__init__(thought, *args, **kwargs)
            nodes[thought.state] = self

    backend = TreeBackend(
        [[[1], [2]], [[3]]], judge=lambda name, node: "hm" if name.startswith("raa") or name == "rab" else "v6"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mcts, "Node", Spy)
        solve(backend, MCTS(simulations=100, parallel=1))
    assert (nodes["ra"].visits, nodes["ra"].rated, nodes["ra"].total) == (3, 2, 12.0)  # its own value and rab's child


# Options


@pytest.mark.parametrize("name", sorted(ENOUGH))
@pytest.mark.parametrize("options", [{"by": "foo"}, {"by": "value"}, {"k": 0}, {"kk": 3}])
def test_wrong_options_are_one_clear_error(name: str, options: dict[str, Any]) -> None:
    """An option that no search can use is refused before the first request, by name."""
    with pytest.raises(ConfigError, match=re.escape(f"'{next(iter(options))}'")):
        Agent(task(), name, backend=TreeBackend([1]), options=options)


def test_a_search_object_with_an_unknown_prompt_is_refused() -> None:
    """``by`` is checked for objects too, which no schema has seen."""
    with pytest.raises(ConfigError, match="'foo'"):
        Agent(task(), BFS(by="foo"), backend=TreeBackend([1]))  # type: ignore[arg-type]
