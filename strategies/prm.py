"""A process reward model: the reward of each step, read at a mark behind it.

Two shapes are in use. A head on the hidden state at the mark: a classifier (Qwen2.5-Math-PRM, Zhang et al. 2025,
arXiv:2501.07301) or one value (Skywork-o1 Open PRM). Or the odds of a good and a bad token of a causal model at the
mark (Math-Shepherd, Wang et al. 2024, arXiv:2312.08935).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from treeagent import ConfigError, EvaluationContext, Evaluator, Judgement, Task, Thought


@dataclass(frozen=True)
class PRM(Evaluator):
    """The reward of the last step, or of the whole path, by a process reward model; in [0, 1].

    The model reads the prompt ``prm``, or the input, and then the steps. For Math-Shepherd: ``mark=ки good=+ bad=-``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rewards"})

    mark: str = "<extra_0>"
    """What stands behind each step: one token of the model, and white space behind it; ``\\n`` is a line break."""
    good: str | None = None
    """Token of a right step at the mark; not given: the model has a reward head."""
    bad: str | None = None
    """Token of a wrong step."""
    over: Literal["last", "min", "product", "mean"] = "last"
    """The value of a path from the rewards of its steps."""
    separator: str = "\n\n"
    """Where the text of a thought is cut into steps; empty: a thought is one step."""

    def check(self, task: Task) -> None:
        """Raise ConfigError where the mark is empty, or only one of two tokens is given."""
        if not self.mark:
            raise ConfigError("the evaluator 'prm' needs a mark behind each step: option 'mark' is empty")
        if (self.good is None) != (self.bad is None):
            raise ConfigError("the evaluator 'prm' needs both options 'good' and 'bad', or none for a reward head")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Unknown where a reward is not a probability."""
        return [await self._judged(thought, context) for thought in thoughts]

    async def _judged(self, thought: Thought, context: EvaluationContext) -> Judgement:
        texts = context.steps(thought)
        parts = [part for text in texts for part in (text.split(self.separator) if self.separator else [text])]
        steps = [part.strip() for part in parts if part.strip()]
        if not steps:
            return Judgement(None)
        mark = self.mark.replace("\\n", "\n")
        scores = await context.reward(thought, steps, mark, self.good, self.bad)
        rewards = [math.exp(min(logprob, 0.0)) for logprob in scores.logprobs]
        if not all(math.isfinite(reward) for reward in rewards):
            return Judgement(None, (), 1)
        return Judgement(_over(self.over, rewards))


def _over(rule: str, rewards: Sequence[float]) -> float:
    if rule == "last":
        return rewards[-1]
    if rule == "min":
        return min(rewards)
    return math.prod(rewards) if rule == "product" else sum(rewards) / len(rewards)
