"""What is particular to best-of-N, adaptive consistency, particles, AB-MCTS, budget-guided MCTS and Chain-in-Tree."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TreeBackend, best, named, optimum, solve, task, trees
from test_searches import chains, inner, verifying
from test_searches_more import backend_of, expanded, judged_trees

from treeagent import Budget, ConfigError, Evaluator, Explorer, Judgement, Request, Search, Thought
from treeagent.strategies.ab_mcts import ABMCTS, Branch, _add, _pick
from treeagent.strategies.adaptive_sc import AdaptiveSC, lead
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.best_of_n import BestOfN
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.chain_in_tree import ChainInTree
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.particle_filter import ParticleFilter

short = settings(max_examples=25, deadline=None)
LOOSE = {"'^answer": "'(?m)^answer"}


@dataclass(frozen=True)
class InTurn(Evaluator):
    """Judges attempts in their order."""

    values: tuple[float | None, ...]

    async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
        """By the sibling index of the attempt."""
        return [Judgement(self.values[thought.path[-1]]) for thought in thoughts]


def leaves(tree: Any) -> list[str]:
    return [name for name, node in named(tree).items() if not isinstance(node, list)]


def samples(backend: TreeBackend) -> list[tuple[str, int]]:
    """The node and the number of samples of each expansion by the prompt ``sample``."""
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    return [(request.prompt.split()[3], request.n) for request in asked]


# Best-of-N


@settings(short, max_examples=10)
@given(judged_trees())
def test_best_of_n_answers_the_best_end_and_judges_ends_alone(drawn: Any) -> None:
    """No judge is asked about a step on the way; with samples for all, the best end of all wins."""
    tree, values = drawn
    backend = backend_of(tree, values)
    result = solve(backend, BestOfN(n=300))
    assert sorted(prompt.split()[-1] for prompt in backend.prompts("value")) == sorted(leaves(tree))
    ends = [thought.state for thought in result.tree if thought.terminal]
    assert result.answer == min(ends, key=lambda end: (values[end] is None, -(values[end] or 0)))


@short
@given(trees(), st.integers(1, 9))
def test_best_of_n_draws_as_many_samples_a_level_as_chains_are_open(tree: Any, n: int) -> None:
    """Chains that meet part again, so a level has n samples less the chains that have ended."""
    backend = TreeBackend(tree)
    result = solve(backend, BestOfN(n=n))
    asked: Counter[int] = Counter()
    for name, count in samples(backend):
        asked[len(name)] += count
    ended = 0
    for depth, count in sorted(asked.items()):
        assert count == n - ended
        ended += sum(thought.terminal for thought in result.tree if thought.depth == depth)


@pytest.mark.parametrize(
    ("vote", "values", "winner", "judged"),
    [("best", (9, 5, 5), "x", 3), ("weighted", (9, 5, 5), "y", 3), ("weighted", (11, 5, 5), "x", 3)],
)
def test_the_votes_of_best_of_n(vote: Any, values: tuple[int, ...], winner: str, judged: int) -> None:
    """``best`` takes the best chain's answer; ``weighted`` adds the judgements of chains with one answer."""
    result = solve(TreeBackend([1], answer=chains("x", "y", "y")), BestOfN(n=3, vote=vote, by="cot"), InTurn(values),
                   task=task(**LOOSE))  # fmt: skip
    assert (result.answer, result.counts.judged) == (winner, judged)


def test_a_majority_needs_no_judge_and_unknown_judgements_have_no_weight() -> None:
    """``majority`` asks for no judgement; where none could be read, ``weighted`` takes the earliest of equals."""
    backend = TreeBackend([1], answer=chains("x", "y", "y"), judge=lambda name, node: "v3")
    assert solve(backend, BestOfN(n=3, vote="majority", by="cot"), task=task(**LOOSE)).answer == "y"
    assert not backend.prompts("value")
    unknown = InTurn((None, None, 1))
    result = solve(TreeBackend([1], answer=chains("x", "x", "y")), BestOfN(n=3, vote="weighted", by="cot"), unknown,
                   task=task(**LOOSE))  # fmt: skip
    assert result.answer == "y"


def test_best_of_n_verifies_no_more_answers_than_it_is_told() -> None:
    """A right answer of a lesser chain is found only where several candidates may be verified."""
    tree = [5, 4, 3]
    one, two = (solve(TreeBackend(tree), BestOfN(n=3, candidates=n), task=verifying("rb")) for n in (1, 2))
    assert ((one.answer, one.solved), (two.answer, two.solved)) == (("ra", False), ("rb", True))


# Adaptive consistency


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


# Particle filtering


@pytest.mark.parametrize("by", ["propose", "sample"])
@short
@given(drawn=judged_trees(), n=st.integers(1, 8), seed=st.integers(0, 5))
def test_as_many_particles_are_drawn_as_there_were(by: Any, drawn: Any, n: int, seed: int) -> None:
    """On every level n samples less the particles that have arrived, and only a level's states are expanded."""
    tree, values = drawn
    backend = backend_of(tree, values)
    result = solve(backend, ParticleFilter(n=n, by=by), seed=seed)
    levels: dict[int, int] = {}
    for name, count in samples(backend):
        levels[len(name)] = levels.get(len(name), 0) + count
    assert all(count <= n for count in levels.values())
    assert levels.get(1, n) == n
    asked = expanded(backend)
    assert len(asked) == len(set(asked))
    assert result.answer in leaves(tree) or result.answer is None


def test_particles_are_drawn_by_the_softmax_of_their_judgements() -> None:
    """Over many seeds a particle is followed as often as the softmax says; an unknown one never."""
    tree = [[[1]], [[2]], [[3]]]
    judge = {"ra": "v0", "rb": "v10", "rc": "hm"}
    followed: Counter[str] = Counter()
    for seed in range(300):
        backend = TreeBackend(tree, judge=lambda name, node: judge.get(name[:2], "hm"))
        solve(backend, ParticleFilter(n=3, by="propose", temperature=1.0), seed=seed)
        followed.update(name for name in expanded(backend) if len(name) == 2)
    missed = (1 / (1 + math.exp(-1))) ** 3  # that three draws all give the better one
    assert followed["ra"] / 300 == pytest.approx(1 - missed, abs=0.09)
    assert followed["rc"] == 0


def test_one_particle_is_one_chain() -> None:
    """A single particle takes the model's steps as they come, whatever the judge says."""
    backend = TreeBackend([[[7, 30]], 30])
    assert solve(backend, ParticleFilter(n=1)).answer == "raaa"
    assert samples(backend) == [("r", 1), ("ra", 1), ("raa", 1)]


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


# Chain-in-Tree


@short
@given(st.integers(1, 3), st.integers(1, 3))
def test_a_chain_is_followed_without_a_judge(above: int, below: int) -> None:
    """Where all samples agree nothing is judged; the fork is, and so is the end of each chain below it."""
    tree: Any = [3]
    left, right = tree, [8]
    for _ in range(below):
        left, right = [left], [right]
    whole: Any = [left, right]
    for _ in range(above):
        whole = [whole]
    backend = TreeBackend(whole)
    result = solve(backend, ChainInTree(k=3, b=2))
    assert result.answer == optimum(whole)
    fork = "r" + "a" * above
    assert {prompt.split()[-1] for prompt in backend.prompts("value")} == {
        fork + "a", fork + "b", *leaves(whole)
    }  # fmt: skip


@short
@given(trees())
def test_where_samples_differ_everywhere_it_is_a_beam(tree: Any) -> None:
    """A wide beam loses nothing, and every thought that has a sibling or an end is judged once."""
    backend = TreeBackend(tree)
    result = solve(backend, ChainInTree(k=9, b=50))
    assert result.answer == optimum(tree)
    judged = [prompt.split()[-1] for prompt in backend.prompts("value")]
    nodes = named(tree)
    expected = [
        name
        for name, node in nodes.items()
        if isinstance(siblings := nodes.get(name[:-1]), list) and (len(siblings) > 1 or not isinstance(node, list))
    ]
    assert sorted(judged) == sorted(expected)
    assert best(tree) == nodes[result.answer or ""]


@pytest.mark.parametrize("search", [BestOfN(), ParticleFilter(), ABMCTS(), ChainInTree()], ids=str)
def test_the_prompt_sample_is_preferred(search: Search) -> None:
    """They draw single steps where the task can; a task without either prompt is refused by the name of the lack."""
    backend = TreeBackend([1, 2])
    solve(backend, search)
    assert samples(backend)
    bare = task(**{'  propose: "children of {{ state }}\\n"\n': "", '  sample: "a child of {{ state }} after {{ steps | join(\', \') }}\\n"\n': "", '  cot: "cot of {{ input }}\\n"\n': ""})  # fmt: skip  # noqa: E501
    with pytest.raises(ConfigError):
        solve(TreeBackend([1]), search, task=bare)
