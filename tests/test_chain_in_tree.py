"""What is particular to Chain-in-Tree."""

from __future__ import annotations

from typing import Any

from chain_tools import leaves
from hypothesis import given
from hypothesis import strategies as st
from search_cases import short
from synthetic import TreeBackend, best, named, optimum, solve, trees

from treeagent.strategies.chain_in_tree import ChainInTree


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
