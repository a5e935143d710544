"""What every search must do, on small trees whose best leaf is known."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..evaluator import Evaluator
from ..options import build
from ..runtime.agent import Agent
from ..runtime.budget import Budget
from ..runtime.result import Result
from ..search import Search
from .synthetic import Node, TreeBackend, essence, optimum, random_tree, solve, task


class SearchContract:
    """Tests of a search; subclass it and override :meth:`search`.

    Override :meth:`thorough` as well when the search has options with which it cannot miss the best leaf of a small
    tree that is judged exactly.
    """

    trees: ClassVar[Sequence[Node]] = ([3, 29, 12], [[1, [2, 3]], 4, [[5], 0]], *map(random_tree, range(4)))
    """Trees that are searched: nested lists whose numbers are the values of leaves."""
    evaluator: ClassVar[str | Evaluator] = "value"
    """Judges thoughts where the search needs judgements; it reads the values of the synthetic tree from replies."""

    def search(self) -> Search:
        """The search under test."""
        raise NotImplementedError("override search() to return the search under test")

    def thorough(self) -> Search | None:
        """The search with options that find the best leaf of every tree in ``trees``; None when there are none."""
        return None

    def test_its_options_are_the_fields_of_a_dataclass(self) -> None:
        """It can be made again from its options, so a journal can name it."""
        search = self.search()
        assert isinstance(search, Search)
        assert is_dataclass(search) or not vars(search)
        if is_dataclass(search):
            options = {field.name: getattr(search, field.name) for field in fields(search)}
            assert build("search", "the search", type(search), options) == search

    def test_it_ends_on_every_tree(self) -> None:
        """Its result is a thought of its tree, or None; it ends by itself."""
        for tree in self.trees:
            result = self._run(tree)
            assert result.ended == "finished"
            assert result.thought is None or result.tree[result.thought.id] == result.thought

    def test_a_second_run_is_like_the_first(self) -> None:
        """One search object keeps no state between runs: the same seed grows the same tree."""
        search = self.search()
        for tree in self.trees:
            first, second = (self._run(tree, search=search, seed=5) for _ in range(2))
            assert essence(first) == essence(second)

    def test_the_order_of_replies_changes_nothing(self) -> None:
        """The same tree, judgements, answer and usage in whatever order replies arrive."""
        for tree in self.trees:
            expected = essence(self._run(tree))
            for order in range(3):
                assert essence(self._run(tree, order=order)) == expected

    def test_a_budget_ends_it_at_the_same_place(self) -> None:
        """No limit is exceeded, the result says which limit ended it, and the order of replies does not matter."""
        for tree in self.trees:
            for budget in (Budget(calls=0), Budget(calls=3), Budget(nodes=2), Budget(calls=7, nodes=5)):
                results = [self._run(tree, order=order, budget=budget) for order in (None, 0, 1)]
                assert len({str(essence(result)) for result in results}) == 1
                result = results[0]
                assert result.ended in ("finished", "calls", "nodes")
                assert budget.calls is None or result.usage.calls <= budget.calls
                assert budget.nodes is None or len(result.tree) - 1 <= budget.nodes

    def test_requests_that_are_sent_early_change_nothing(self) -> None:
        """Hints are hints: the tree, the answer, the usage and the cuts are those of a run without early requests."""
        for tree in self.trees:
            for budget in (Budget(), Budget(calls=7, nodes=5)):
                expected = essence(self._run(tree, budget=budget))
                for order in range(2):
                    assert essence(self._run(tree, order=order, budget=budget, speculate=4)) == expected

    def test_a_run_resumed_from_its_journal_ends_the_same(self) -> None:
        """After any interruption the rest of the tree grows as if nothing had happened."""
        for tree in self.trees[:3]:
            with tempfile.TemporaryDirectory(prefix="treeagent-contract-") as folder:
                path = Path(folder) / "run.jsonl"
                expected = essence(self._run(tree, journal=path))
                lines = path.read_bytes().splitlines(keepends=True)
                for count in range(1, len(lines), max(1, len(lines) // 5)):
                    path.write_bytes(b"".join(lines[:count]))
                    assert essence(self._resumed(tree, path)) == expected

    def test_replies_without_a_step_are_no_error(self) -> None:
        """Where nothing can be read from any reply it ends without an answer, or with one of the wrong form."""
        result = self._run([[14, 15]] * 3, answer=lambda request: "nothing!")
        assert result.ended == "finished"
        assert result.answer in (None, "nothing!")
        assert len(result.tree) == 1 or result.thought is None or result.thought.depth <= 1

    def test_judgements_that_cannot_be_read_are_no_error(self) -> None:
        """A thought whose judgement could not be read has no value; the search still ends by itself."""
        for tree in self.trees:
            result = self._run(tree, judge=lambda name, node: "hm")
            assert result.ended == "finished"
            assert all(thought.value is None for thought in result.tree)

    def test_the_best_leaf_is_found(self) -> None:
        """With the options of :meth:`thorough` and exact judgements the answer is the leaf of the highest value."""
        search = self.thorough()
        for tree in self.trees if search else ():
            result = self._run(tree, search=search)
            assert (result.answer, result.ended) == (optimum(tree), "finished")

    def _run(self, tree: Node, *, search: Search | None = None, **more: Any) -> Result:
        """One search over a tree; ``more`` are arguments of the backend, of the agent and of its solve."""
        backend = TreeBackend(tree, **{key: more.pop(key) for key in ("order", "judge", "answer") if key in more})
        return solve(backend, search or self.search(), self.evaluator, **more)

    def _resumed(self, tree: Node, path: Path) -> Result:
        """The result of a run that goes on from a journal."""
        agent = Agent(task(), self.search(), backend=TreeBackend(tree), evaluator=self.evaluator, speculate=0)
        return asyncio.run(agent.run("r", journal=path, resume=True).result())
