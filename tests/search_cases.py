"""Searches with their options, and what tests of several of them share."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from synthetic import CheckedTask, named

from treeagent import Checker, Search, Task, registry
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.baselines import IO, CoTSC
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


def chains(*answers: str | None) -> Any:
    """The n-th attempt's text; None has no answer in it."""
    return lambda request: "no idea" if (text := answers[request.key.visit]) is None else f"well\nanswer {text}"
