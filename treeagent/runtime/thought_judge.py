"""Has the evaluator of one search judge thoughts, inside the plug-in boundary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import RequestRefusedError
from ..evaluator import Evaluator
from ..plugin_boundary import PluginBoundary, at_input
from ..task import Task
from ..thought import Judgement, Thought
from .budget import BudgetExhausted
from .guarded_task import of_type
from .judgement_context import JudgementContext
from .task_requests import TaskRequests, ThoughtsById

Record: TypeAlias = "Callable[[Thought, Judgement, Sequence[str]], None]"
"""Gets a thought with its judgement and the ids of the evaluator's requests."""


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """The evaluator of a search."""

    evaluator: Evaluator
    name: str
    """For messages."""


class ThoughtJudge:
    """An evaluator at work on one input; calling it judges thoughts and records their judgements."""

    def __init__(
        self,
        by: JudgedBy,
        task: Task,
        input: str,
        tree: ThoughtsById,
        requests: TaskRequests,
        record: Record,
    ) -> None:
        """``record`` gets each thought with its judgement and the ids of the evaluator's requests."""
        self._evaluator, self._record = by.evaluator, record
        self._task, self._input, self._tree, self._requests = task, input, tree, requests
        self._inside = PluginBoundary(
            "evaluator", by.name, at_input(input), passing=[BudgetExhausted], inner=[("task", task.name, task)]
        )

    @property
    def together(self) -> bool:
        """Whether thoughts are judged against each other."""
        return self._evaluator.together

    async def __call__(self, thoughts: Sequence[Thought]) -> None:
        """Judge thoughts; where a request is refused their values are unknown. Raises PluginError."""
        context = JudgementContext(self._task, self._input, self._tree, self._requests)
        try:
            with self._inside:
                judgements = _checked(await self._evaluator.judge(thoughts, context), len(thoughts))
        except RequestRefusedError:
            judgements = [Judgement(None)] * len(thoughts)
        for thought, judgement in zip(thoughts, judgements, strict=True):
            self._record(thought, judgement, context.answered)


def _checked(judgements: Sequence[Judgement], count: int) -> list[Judgement]:
    """The judgements of ``count`` thoughts. Raises TypeError or ValueError where they break an evaluator's contract."""
    if len(judgements) != count:
        raise ValueError(f"judge returned {len(judgements)} judgements for {count} thoughts")
    return [of_type(judgement, Judgement, "judge") for judgement in judgements]
