"""What searches cost, as the manual has it."""

from __future__ import annotations

from typing import Any

import pytest
from judged_trees import expanded
from synthetic import TreeBackend, best, solve

from treeagent import Result, Search, Thought
from treeagent.strategies.beam import Beam
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.dvts import DVTS
from treeagent.strategies.greedy import Greedy
from treeagent.strategies.rap import RAP


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
