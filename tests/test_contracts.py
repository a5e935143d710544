"""Every registered search, evaluator and checker keeps its contract, a third party's too."""

from __future__ import annotations

from typing import Any

import oracles
import pytest
from synthetic import CheckedTask
from synthetic import task as synthetic_task

from treeagent import Agent, Backend, Checker, Evaluator, Judgement, Request, Search, Task, registry
from treeagent.strategies.ab_mcts import ABMCTS
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.best_of_n import BestOfN
from treeagent.strategies.bfs import BFS
from treeagent.strategies.bg_mcts import BudgetGuidedMCTS
from treeagent.strategies.chain_in_tree import ChainInTree
from treeagent.strategies.dfs import DFS
from treeagent.strategies.dvts import DVTS
from treeagent.strategies.mcts import MCTS
from treeagent.strategies.particle_filter import ParticleFilter
from treeagent.strategies.rebase import Rebase
from treeagent.testing import CheckerContract, EvaluatorContract, SearchContract, Solution

THOROUGH: dict[str, Search] = {
    "bfs": BFS(b=30),
    "dfs": DFS(threshold=0),
    "mcts": MCTS(simulations=100),
    "best-first": BestFirst(expansions=100),
    "dvts": DVTS(subtrees=1),
    "rebase": Rebase(n=300),
    "best-of-n": BestOfN(n=300),
    "particle-filter": ParticleFilter(n=300),
    "ab-mcts": ABMCTS(simulations=200, by="propose"),
    "bg-mcts": BudgetGuidedMCTS(simulations=100),
    "chain-in-tree": ChainInTree(b=30, k=9),
}
"""Searches with options that find the best leaf by a judge that knows it."""


class TestEverySearch(SearchContract):
    """As it is registered."""

    @pytest.fixture(autouse=True, params=registry.names("search"))
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name: str = request.param

    def search(self) -> Search:
        found: Search = registry.load("search", self.name)()
        return found

    def thorough(self) -> Search | None:
        return THOROUGH.get(self.name)


class Marked(Checker):
    """Verifies the best leaf of the tree of the contract."""

    def verify(self, input: str, steps: Any, answer: str | None) -> bool:
        """Whether it is the one that is right."""
        return (answer or (steps[-1].split()[0] if steps else "")) == "rca"


class TestEveryEvaluator(EvaluatorContract):
    """As it is registered."""

    @pytest.fixture(autouse=True, params=registry.names("evaluator"))
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name: str = request.param

    def evaluator(self) -> Evaluator:
        found: Evaluator = registry.load("evaluator", self.name)()
        return found

    def task(self) -> Task:
        return CheckedTask(Marked()) if self.name == "verifier" else synthetic_task()


class SmallNumbers(Evaluator):
    """Reads states of the Game of 24: small numbers are better."""

    async def judge(self, thoughts: Any, context: Any) -> list[Judgement]:
        """Computed from the state alone, which the synthetic task's states do not allow."""
        return [Judgement(-sum(map(int, thought.state.split()))) for thought in thoughts]


class TestAnEvaluatorOfOneTask(EvaluatorContract):
    """It reads the states of a task of its own, and a model's replies are given."""

    def evaluator(self) -> Evaluator:
        return SmallNumbers()

    def task(self) -> Task:
        return Task.load("game24")

    def reply(self, request: Request) -> str:
        return "4 + 9 = 13 (left: 10 13 13)\n10 - 4 = 6 (left: 6 9 13)\n13 - 6 = 7 (left: 7 9)"


@pytest.fixture(scope="module", params=registry.names("checker"))
def solved(request: pytest.FixtureRequest) -> tuple[Checker, Solution]:
    """A checker with the first example of its task, as the task's oracle solves it."""
    task = Task.load(request.param)
    backend: Backend = oracles.backend(task.name)
    result = Agent(task, "bfs", backend=backend).solve(task.examples[0])
    assert result.thought is not None
    thoughts = result.tree.lineage(result.thought)
    texts, states = tuple(each.text for each in thoughts), tuple(each.state for each in thoughts)
    return registry.load("checker", request.param)(), Solution(result.input, texts, result.answer, states)


class TestEveryChecker(CheckerContract):
    """By what an oracle does with the first example of its task."""

    @pytest.fixture(autouse=True)
    def _solved(self, solved: tuple[Checker, Solution]) -> None:
        self.made, solution = solved
        self.solutions = [solution]  # type: ignore[misc]
        reads = type(self.made).read is not Checker.read
        self.wrong_inputs = ["", "\x00"] if reads else []  # type: ignore[misc]

    def checker(self) -> Checker:
        return self.made


class TestAPlugInsChecker(CheckerContract):
    """A checker of five lines, as a plug-in author writes it."""

    class Sum(Checker):
        """The answer is the sum of the numbers."""

        def read(self, input: str) -> str:
            return " ".join(str(int(word)) for word in input.split())

        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return answer is not None and int(answer) == sum(map(int, input.split()))

    solutions = (Solution("1  2 03", answer="6"),)
    wrong_inputs = ("one", "1 +")

    def checker(self) -> Checker:
        return self.Sum()


class Forgetful(Search):
    """Breaks the contract: it grows another tree each time."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    async def run(self, explorer: Any) -> Any:
        """Expands as often as it has run."""
        self.runs.append(explorer.input)
        for _ in self.runs:
            [children] = await explorer.grow([explorer.root])
        return children[0] if children else None


def test_a_search_that_breaks_the_contract_fails_it() -> None:
    """State between runs and options that no journal can name are found."""

    class Contract(SearchContract):
        def search(self) -> Search:
            return Forgetful()

    for clause in (
        Contract().test_its_options_are_the_fields_of_a_dataclass,
        Contract().test_a_second_run_is_like_the_first,
    ):
        with pytest.raises(AssertionError):
            clause()
