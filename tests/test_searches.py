"""Searches on synthetic trees with a known optimum."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import CheckedTask, TreeBackend, best, essence, named, optimum, solve, task, trees

from treeagent import Agent, Budget, Checker, ConfigError, Explorer, Request, Result, Search, Task, Thought, registry
from treeagent.strategies import mcts
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.baselines import IO, CoT, CoTSC
from treeagent.strategies.beam import Beam
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.best_of_n import BestOfN
from treeagent.strategies.bfs import BFS
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.chain_in_tree import ChainInTree
from treeagent.strategies.dfs import DFS
from treeagent.strategies.dvts import DVTS
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.particle_filter import ParticleFilter
from treeagent.strategies.rap import RAP
from treeagent.strategies.rebase import Rebase

short = settings(max_examples=25, deadline=None)
REGISTERED: dict[str, Search] = {name: registry.load("search", name)() for name in registry.names("search")}
"""Every registered search as it comes, a third party's too: whatever is installed here has to keep the contract."""
SEARCHES: list[Search] = [
    BFS(b=2),
    BFS(b=3, by="sample", k=2),
    DFS(threshold=8),
    MCTS(simulations=6, parallel=3),
    MCTS(simulations=9, parallel=1, output="max_visits"),
    IO(),
    CoTSC(k=4),
    Beam(b=2, score="min"),
    BestFirst(expansions=4, parallel=3),
    DVTS(subtrees=2),
    DVTS(subtrees=3, by="sample", k=2),
    Rebase(n=5),
    Rebase(n=6, by="sample", temperature=5),
    RAP(iterations=4, k=2),
    BestOfN(n=5, vote="weighted"),
    BestOfN(n=5, vote="majority", by="sample"),
    ParticleFilter(n=5),
    ParticleFilter(n=5, by="propose", temperature=2),
    ABMCTS(simulations=9, parallel=2),
    ABMCTS(simulations=6, by="propose"),
    BudgetGuidedMCTS(simulations=12, parallel=3, k=2),
    ChainInTree(b=2, k=3),
    *REGISTERED.values(),
]
JUDGED = [search for search in SEARCHES if search.evaluates]
ENOUGH: dict[str, Search] = {
    "bfs": BFS(b=1),
    "dfs": DFS(threshold=0),
    "mcts": MCTS(simulations=100),
    "greedy": REGISTERED["greedy"],
    "beam": Beam(b=1),
    "best-first": BestFirst(expansions=100),
    "dvts": DVTS(subtrees=1),
    "rebase": Rebase(n=300),
    "rap": RAP(iterations=1),
    "best-of-n": BestOfN(n=300),
    "particle-filter": ParticleFilter(n=300, temperature=0.02),
    "ab-mcts": ABMCTS(simulations=200, by="propose"),
    "bg-mcts": BudgetGuidedMCTS(simulations=60),
    "chain-in-tree": ChainInTree(b=1, k=9),
}
"""Each of our searches with as much as it needs to find the optimum by a judge that knows it."""


LAZY = (BestOfN, ChainInTree)
"""Searches that do not judge every thought."""


def widest(root: Any) -> int:
    """The most thoughts that a level can bring to the beam, finished ones included."""
    return len(named(root))


def inner(root: Any) -> int:
    return sum(isinstance(node, list) for node in named(root).values())


class Marked(Checker):
    """Verifies the leaves whose names it was made with."""

    def __init__(self, right: frozenset[str]) -> None:
        self.right = right

    def verify(self, input: str, steps: Any, answer: str | None) -> bool:
        """Whether it is the one that is right."""
        return (answer or (steps[-1].split()[0] if steps else "")) in self.right


def verifying(*right: str) -> Task:
    return CheckedTask(Marked(frozenset(right)))


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


# Baselines


def chains(*answers: str | None) -> Any:
    """The n-th attempt's text; None has no answer in it."""
    return lambda request: "no idea" if (text := answers[request.key.visit]) is None else f"well\nanswer {text}"


@pytest.mark.parametrize(("search", "role"), [(IO(), "io"), (CoT(), "cot")])
def test_one_attempt_is_one_request(search: Search, role: str) -> None:
    """Direct answer and chain of thought: one request, no evaluator, the last answer in the text."""
    backend = TreeBackend([1], answer=lambda request: "answer early\nanswer late")
    result = solve(backend, search, task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.usage.calls) == ("late", 1)
    assert backend.prompts("") == [f"{role} of r\n"]


@pytest.mark.parametrize(
    ("answers", "winner", "unparsed"),
    [
        (("a", "b", "b"), "b", 0),
        (("b", "a", "a", "b"), "b", 0),
        ((None, "c", None, None), "c", 3),
        (("d", None, "e", "e", "d"), "d", 1),
        ((None, None), None, 2),
    ],
)
def test_self_consistency_is_the_earliest_majority(answers: Any, winner: str | None, unparsed: int) -> None:
    """Most votes win, of equals the earliest; attempts without an answer are counted and never vote."""
    backend = TreeBackend([1], answer=chains(*answers))
    result = solve(backend, CoTSC(k=len(answers)), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.counts.unparsed, len(backend.requests)) == (winner, unparsed, len(answers))
    assert len({request.id for request in backend.requests}) == len(answers)


def test_self_consistency_may_vote_over_direct_answers_and_verify_candidates() -> None:
    """``by=io`` votes over direct answers; with more candidates a verified minority answer is returned."""
    answers = chains("x", "x", "y")
    loose = {"'^answer": "'(?m)^answer"}
    plain = solve(TreeBackend([1], answer=answers), CoTSC(k=3, by="io"), task=task(**loose))
    checked = CheckedTask(Marked(frozenset("y")), **loose)
    verified = solve(TreeBackend([1], answer=answers), CoTSC(k=3, by="io", candidates=2), task=checked)
    assert (plain.answer, verified.answer, verified.solved) == ("x", "y", True)


def test_self_consistency_counts_answers_that_the_task_calls_the_same() -> None:
    """Votes are counted by ``answer.same``."""
    same = task(**{"'^answer": "'(?m)^answer", "\\S+)$'}": "\\S+)$', same: '{{ answer | lower }}'}"})
    result = solve(TreeBackend([1], answer=chains("B", "a", "A")), CoTSC(k=3), task=same)
    assert result.answer == "a"


def test_an_answer_that_same_cannot_read_is_its_own() -> None:
    """A fault of the template ``answer.same`` on a model's text is no crash."""
    same = task(**{"'^answer": "'(?m)^answer", "\\S+)$'}": "\\S+)$', same: '{{ answer.split(\":\")[1] }}'}"})
    result = solve(TreeBackend([1], answer=chains("p", "1:q", "2:q")), CoTSC(k=3), task=same)
    assert result.answer == "1:q"


def test_self_consistency_cut_by_the_budget_keeps_what_was_paid_for_and_says_so() -> None:
    """Three paid attempts vote; the result names the limit that stopped the others."""
    backend = TreeBackend([1], answer=chains("a", "b", "b", "a", "a"))
    result = solve(backend, CoTSC(k=5), budget=Budget(calls=3), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.ended, result.usage.calls, len(backend.requests)) == ("b", "calls", 3, 3)


def test_attempts_beyond_the_limit_of_nodes_are_not_paid_for() -> None:
    """An attempt is a node: two are allowed, so two are asked for, and the result says what stopped the rest."""
    backend = TreeBackend([1], answer=chains("a", "b", "b"))
    result = solve(backend, CoTSC(k=3), budget=Budget(nodes=2), task=task(**{"'^answer": "'(?m)^answer"}))
    assert (result.answer, result.ended, len(backend.requests)) == ("a", "nodes", 2)


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
