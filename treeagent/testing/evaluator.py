"""What every evaluator must do, on thoughts of a small tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from ..errors import CapabilityError
from ..evaluator import Evaluator
from ..options import build
from ..request import Request, ScoreRequest
from ..runtime.result import Result
from ..search import Explorer, Search
from ..task import Task
from ..thought import Judgement, Thought
from .synthetic import Node, TreeBackend, essence, solve, task

LEVELS, WIDTH = 3, 8
"""Levels of the tree, and thoughts of a level that have children."""


class EvaluatorContract:
    """Tests of an evaluator; subclass it and override :meth:`evaluator`.

    The evaluator judges the nodes of a small tree (:mod:`treeagent.testing.synthetic`), whose task has all prompts.
    For an evaluator that reads the thoughts of a task of its own, override :meth:`task` and :meth:`reply`: then it
    judges the first levels of a tree of that task's first example.
    """

    tree: ClassVar[Node] = [[1, [2, 3]], 4, [[5], 0]]

    def evaluator(self) -> Evaluator:
        """The evaluator under test."""
        raise NotImplementedError("override evaluator() to return the evaluator under test")

    def task(self) -> Task:
        """A task whose thoughts it can judge; the synthetic one."""
        return task()

    def reply(self, request: Request) -> str | None:
        """The text that answers a request, by ``request.prompt`` and ``request.key.role``.

        None for the synthetic backend's own answer, which knows the synthetic task only.
        """
        return "the choice is 1" if request.key.role == "vote" else None

    def test_its_options_are_the_fields_of_a_dataclass(self) -> None:
        """It can be made again from its options, so a journal can name it."""
        evaluator = self.evaluator()
        assert isinstance(evaluator, Evaluator)
        assert is_dataclass(evaluator) or not vars(evaluator)
        if is_dataclass(evaluator):
            options = {field.name: getattr(evaluator, field.name) for field in fields(evaluator)}
            assert build("evaluator", "the evaluator", type(evaluator), options) == evaluator

    def test_every_thought_gets_one_judgement(self) -> None:
        """Every thought is judged; a value is a finite number or None."""
        result = self._run()
        thoughts = [thought for thought in result.tree if thought.parent is not None]
        assert thoughts
        for thought in thoughts:
            assert isinstance(thought.judgement, Judgement)
            assert thought.value is None or math.isfinite(thought.value)
            assert thought.judgement.unparsed >= 0

    def test_thoughts_are_judged_apart_unless_it_says_together(self) -> None:
        """Judged in two groups or in one, thoughts get the same judgements, except where they are compared."""
        if not self.evaluator().together:
            judgements = [[thought.judgement for thought in self._run(apart=apart).tree] for apart in (False, True)]
            assert judgements[0] == judgements[1]

    def test_the_order_of_replies_changes_nothing(self) -> None:
        """The same judgements and usage in whatever order replies arrive."""
        expected = essence(self._run())
        for order in range(3):
            assert essence(self._run(order=order)) == expected

    def test_a_second_run_is_like_the_first(self) -> None:
        """One evaluator object keeps no state between runs."""
        evaluator = self.evaluator()
        first, second = (essence(self._run(evaluator=evaluator)) for _ in range(2))
        assert first == second

    def test_replies_that_cannot_be_read_are_counted_and_worth_nothing(self) -> None:
        """A judgement from such replies alone has no value, and says how many it could not read."""
        grows = ("propose", "sample")
        result = self._run(answer=lambda request: self.reply(request) if request.key.role in grows else "%%%")
        for thought in result.tree:
            if thought.judgement is not None and thought.judgement.unparsed:
                assert thought.value is None
                assert not thought.judgement.labels
        assert result.counts.judgements_unparsed == sum(
            thought.judgement.unparsed for thought in result.tree if thought.judgement is not None
        )

    def test_it_declares_the_capabilities_that_it_uses(self) -> None:
        """It sends no scoring request without the need ``score``; a backend without a need is refused at once."""
        evaluator = self.evaluator()
        backend = TreeBackend(self.tree, answer=self.reply)
        solve(backend, _GrowAll(), evaluator, task=self.task())
        scored = any(isinstance(request, ScoreRequest) for request in backend.requests)
        assert scored <= bool({"score", "rewards"} & evaluator.needs)
        if evaluator.needs - {"generate"}:
            less = _GenerateOnly(self.tree)
            try:
                solve(less, _GrowAll(), evaluator, task=self.task())
            except CapabilityError:
                assert not less.requests
            else:
                raise AssertionError("a backend without the capabilities was accepted")

    def _run(self, *, evaluator: Evaluator | None = None, apart: bool = False, **how: Any) -> Result:
        """All thoughts of the tree, judged; ``how`` are arguments of the backend."""
        backend = TreeBackend(self.tree, **{"answer": self.reply, **how})
        return solve(backend, _GrowAll(apart), evaluator or self.evaluator(), task=self.task())


class _GenerateOnly(TreeBackend):
    """A backend that can do no more than it must."""

    capabilities = frozenset({"generate"})


@dataclass(frozen=True)
class _GrowAll(Search):
    """Expands and judges the thoughts of a tree, level by level: all of the synthetic one, part of a larger one."""

    apart: bool = False
    """Judge each thought with a call of its own."""

    async def run(self, explorer: Explorer) -> Thought | None:
        level: Sequence[Thought] = [explorer.root]
        for _ in range(LEVELS):
            level = [thought for thought in level if not thought.terminal][:WIDTH]
            grown = await explorer.expand(level)
            children = [child for group in grown for child in group]
            groups = [[child] for child in children] if self.apart else [children]
            level = [judged for group in groups for judged in await explorer.evaluate(group)]
        return None
