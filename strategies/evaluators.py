"""The six evaluators."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from treeagent import ConfigError, EvaluationContext, Evaluator, Judgement, Task, Thought


@dataclass(frozen=True)
class Value(Evaluator):
    """Labels sampled from the prompt ``value`` (Tree of Thoughts, section 3.3 a); the mean of the parsed ones."""

    samples: Annotated[int, Ge(1)] | None = None
    """Labels per state; the task's own number when None."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``value``."""
        task.require("value", "the evaluator 'value'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Every sample that names a label counts; the last label named is meant."""
        judgements = []
        for thought in thoughts:
            reply = await context.ask("value", thought, thought.key, n=self.samples)
            labels = [last_label(completion.text, list(context.task.labels)) for completion in reply.completions]
            parsed = tuple(label for label in labels if label is not None)
            scores = [context.task.labels[label] for label in parsed]
            judgements.append(
                Judgement(sum(scores) / len(scores) if scores else None, parsed, len(labels) - len(parsed))
            )
        return judgements


@dataclass(frozen=True)
class Choice(Evaluator):
    """The expected label after the prompt ``value``, by the likelihood of each; one pass, and it always parses."""

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``value``."""
        task.require("value", "the evaluator 'choice'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Probabilities are normalised over the labels."""
        labels = list(context.task.labels)
        judgements = []
        for thought in thoughts:
            scores = await context.score("value", thought, [f" {label}" for label in labels])
            best = max(scores.logprobs)
            weights = [math.exp(logprob - best) for logprob in scores.logprobs]
            value = sum(w * context.task.labels[label] for w, label in zip(weights, labels, strict=True)) / sum(weights)
            judgements.append(Judgement(value, (labels[weights.index(max(weights))],)))
        return judgements


@dataclass(frozen=True)
class Vote(Evaluator):
    """Votes for the best of several thoughts (Tree of Thoughts, section 3.3 b); a thought's value is its share."""

    together: ClassVar[bool] = True

    samples: Annotated[int, Ge(1)] | None = None
    """Votes cast; the task's own number when None."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``vote``."""
        task.require("vote", "the evaluator 'vote'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """The last whole number in a completion is the choice, counted from 1."""
        place = "|".join(thought.key for thought in thoughts)
        reply = await context.ask("vote", thoughts[0], place, n=self.samples, choices=thoughts)
        numerals = [re.findall(r"\d+", completion.text) for completion in reply.completions]
        names = {str(index) for index in range(1, len(thoughts) + 1)}
        votes = [int(words[-1]) for words in numerals if words and words[-1] in names]
        unparsed = len(numerals) - len(votes)
        shares = [votes.count(index) / len(votes) if votes else None for index in range(1, len(thoughts) + 1)]
        # Unparsed votes belong to no thought: they are counted once, with the first.
        return [Judgement(share, (), unparsed if index == 0 else 0) for index, share in enumerate(shares)]


@dataclass(frozen=True)
class Likelihood(Evaluator):
    """How likely the model finds the step after the prompt ``sample``: its mean token probability, in (0, 1]."""

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``sample``."""
        task.require("sample", "the evaluator 'likelihood'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """The geometric mean over the tokens of the step, given the steps before it."""
        judgements = []
        for thought in thoughts:
            scores = await context.score("sample", context.parent(thought), [thought.text])
            judgements.append(Judgement(math.exp(scores.logprobs[0] / max(scores.lengths[0], 1))))
        return judgements


@dataclass(frozen=True)
class Reward(Evaluator):
    """RAP's reward of a step: likelihood to the power ``alpha`` times self-evaluation to the power 1 - ``alpha``.

    Likelihood is that of the step, as in ``likelihood``; self-evaluation is the expected label of the state after it,
    as in ``choice`` (Hao et al. 2023, arXiv:2305.14992, section 3.2). Needs labels of 0 or more.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    """1 is the likelihood alone, 0 the self-evaluation alone."""

    def check(self, task: Task) -> None:
        """Raise ConfigError without the prompts ``sample`` and ``value``, or with a label below 0."""
        task.require("sample", "the evaluator 'reward'")
        task.require("value", "the evaluator 'reward'")
        if min(task.labels.values(), default=0.0) < 0:
            raise ConfigError(
                f"the evaluator 'reward' needs labels of 0 or more: evaluate.labels of task {task.name!r}"
            )

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Two passes a thought; the label is the likeliest."""
        likely = await Likelihood().judge(thoughts, context)
        good = await Choice().judge(thoughts, context)
        return [
            Judgement((step.value or 0.0) ** self.alpha * (state.value or 0.0) ** (1 - self.alpha), state.labels)
            for step, state in zip(likely, good, strict=True)
        ]


@dataclass(frozen=True)
class TaskVerifier(Evaluator):
    """The task's own exact check: 1 for a finished thought that it verifies, 0 for one that it does not.

    The value of an unfinished thought is unknown.
    """

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task cannot verify."""
        if not task.can_verify:
            raise ConfigError(f"the evaluator 'verifier' needs a checker that verifies; task {task.name!r} has none")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """No request is made."""
        return [
            Judgement(
                float(bool(context.task.verify(context.input, context.steps(thought), None)))
                if thought.terminal
                else None
            )
            for thought in thoughts
        ]


def last_label(text: str, labels: Sequence[str]) -> str | None:
    """The label named last in a text, as a whole word in any case; None when there is none."""
    words = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    named = re.findall(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE)
    return next((label for label in labels if named and label.lower() == named[-1].lower()), None)
