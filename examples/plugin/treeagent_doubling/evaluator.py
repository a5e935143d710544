"""An evaluator that computes a value and makes no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treeagent import Evaluator, Judgement, Thought
from treeagent.evaluator import EvaluationContext


@dataclass(frozen=True)
class Distance(Evaluator):
    """The number divided by the goal, to the power ``sharpness``: 1 at the goal."""

    sharpness: float = 1.0
    """Above 1, only numbers that are very near count."""

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """One judgement a thought, in order."""
        values = []
        for thought in thoughts:
            number, goal = thought.state.split(" of ")
            values.append(Judgement((int(number) / int(goal)) ** self.sharpness))
        return values
