"""What is particular to best-of-N, and to searches over samples of single steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from chain_tools import LOOSE, leaves, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_trees import backend_of, judged_trees
from search_cases import chains, short, verifying
from synthetic import TreeBackend, solve, task, trees

from treeagent import ConfigError, Evaluator, Judgement, Search
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.best_of_n import BestOfN
from treeagent.strategies.chain_in_tree import ChainInTree
from treeagent.strategies.particle_filter import ParticleFilter


@dataclass(frozen=True)
class InTurn(Evaluator):
    """Judges attempts in their order."""

    values: tuple[float | None, ...]

    async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
        """By the sibling index of the attempt."""
        return [Judgement(self.values[thought.path[-1]]) for thought in thoughts]


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


@pytest.mark.parametrize("search", [BestOfN(), ParticleFilter(), ABMCTS(), ChainInTree()], ids=str)
def test_the_prompt_sample_is_preferred(search: Search) -> None:
    """They draw single steps where the task can; a task without either prompt is refused by the name of the lack."""
    backend = TreeBackend([1, 2])
    solve(backend, search)
    assert samples(backend)
    bare = task(**{'  propose: "children of {{ state }}\\n"\n': "", '  sample: "a child of {{ state }} after {{ steps | join(\', \') }}\\n"\n': "", '  cot: "cot of {{ input }}\\n"\n': ""})  # fmt: skip  # noqa: E501
    with pytest.raises(ConfigError):
        solve(TreeBackend([1]), search, task=bare)
