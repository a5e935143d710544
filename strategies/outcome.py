"""An outcome scorer: the judge of finished answers, for choosing among them.

An outcome-supervised verifier rates a whole solution and not its steps (Cobbe et al. 2021, arXiv:2110.14168;
Lightman et al. 2023, arXiv:2305.20050). Here a language model is asked for a label, as an LLM judge is
(Zheng et al. 2023, arXiv:2306.05685).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from treeagent import EvaluationContext, Evaluator, Judgement, Task, Thought

from .label_odds import expected_label
from .labels import read_label


@dataclass(frozen=True)
class OutcomeScorer(Evaluator):
    """A label for a finished thought from the prompt ``outcome``; the value of an unfinished one is unknown."""

    by: Literal["samples", "likelihood"] = "samples"
    """``samples``: the mean of sampled labels. ``likelihood``: the expected label, by the likelihood of each."""
    samples: Annotated[int, Ge(1)] | None = None
    """Labels that are sampled; the task's own number when None."""

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # depends on an option
        """``score`` where labels are not sampled."""
        return frozenset({"score"} if self.by == "likelihood" else ())

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``outcome``."""
        task.require("outcome", "the evaluator 'outcome'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Finished thoughts are judged with their answers; no request is made for others."""
        judged = self._likeliest if self.by == "likelihood" else self._sampled
        return [await judged(thought, context) if thought.terminal else Judgement(None) for thought in thoughts]

    async def _likeliest(self, thought: Thought, context: EvaluationContext) -> Judgement:
        labels = context.task.labels
        scores = await context.score("outcome", thought, [f" {label}" for label in labels])
        expected = expected_label(scores.logprobs, labels)
        return Judgement(None, (), 1) if expected is None else Judgement(expected[0], (expected[1],))

    async def _sampled(self, thought: Thought, context: EvaluationContext) -> Judgement:
        labels = context.task.labels
        reply = await context.ask("outcome", thought, thought.key, n=self.samples)
        read = [read_label(each.text, list(labels), cut=each.finish == "length") for each in reply.completions]
        known = tuple(label for label in read if label is not None)
        value = sum(labels[label] for label in known) / len(known) if known else None
        return Judgement(value, known, len(read) - len(known))
