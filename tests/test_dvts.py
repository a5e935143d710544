"""What is particular to DVTS, on synthetic trees."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from judged_trees import backend_of, children, expanded, judged_trees, order, walk
from search_cases import short
from synthetic import TreeBackend, solve, task

from treeagent import Request
from treeagent.strategies.dvts import DVTS


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
