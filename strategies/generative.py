"""A generative verifier: a critique in text, then the odds of a verdict.

ThinkPRM (Khalifa et al. 2025, arXiv:2504.16828) and GenPRM (Zhao et al. 2025, arXiv:2504.00891) let a model reason
about a step before it judges it, and read the score from the probability of the verdict after the reasoning; several
critiques are averaged, as in GenPRM. Departs from both: the verdicts are the task's labels,
of any number; GenPRM's execution of code is left out; and a chat model finds its critique in the message that asks for
the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from treeagent import EvaluationContext, Evaluator, Judgement, Task, Thought, aio

from .label_odds import expected_label


@dataclass(frozen=True)
class Generative(Evaluator):
    """A critique from the prompt ``critique``, then the expected label behind it; the mean over critiques."""

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    samples: Annotated[int, Ge(1)] | None = None
    """Critiques per state; the task's own number when None."""
    lead: str = "\nVerdict:"
    """What stands between a critique and the label; a stop string of ``critique`` keeps it out of the critique."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``critique``."""
        task.require("critique", "the evaluator 'generative'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Labels are the likeliest behind each critique."""
        return [await self._judged(thought, context) for thought in thoughts]

    async def _judged(self, thought: Thought, context: EvaluationContext) -> Judgement:
        labels = context.task.labels
        reply = await context.ask("critique", thought, thought.key, n=self.samples)
        behind = [f"{completion.text.rstrip()}{self.lead}" for completion in reply.completions]
        words = [f" {label}" for label in labels]
        scored = (context.score("critique", thought, words, after=text) for text in behind)
        odds = await aio.gather(scored, deferred=Exception)
        verdicts = [expected_label(each.logprobs, labels) for each in odds]
        known = [verdict for verdict in verdicts if verdict is not None]
        value = sum(value for value, _ in known) / len(known) if known else None
        return Judgement(value, tuple(label for _, label in known), len(verdicts) - len(known))
