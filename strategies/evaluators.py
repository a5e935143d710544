"""The evaluators that ask for a label, a vote, a likelihood or the task's own check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from treeagent import ConfigError, EvaluationContext, Evaluator, Judgement, Task, Thought, aio

from .label_odds import expected_label
from .labels import read_label, read_vote


@dataclass(frozen=True)
class Value(Evaluator):
    """Labels sampled from the prompt ``value`` (Yao et al. 2023, arXiv:2305.10601, section 3.3 a); their mean."""

    samples: Annotated[int, Ge(1)] | None = None
    """Labels per state; the task's own number when None."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``value``."""
        task.require("value", "the evaluator 'value'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """Every sample that states a label for certain counts."""
        judgements = []
        for thought in thoughts:
            reply = await context.ask("value", thought, thought.key, n=self.samples)
            known = list(context.task.labels)
            labels = [read_label(each.text, known, cut=each.finish == "length") for each in reply.completions]
            parsed = tuple(label for label in labels if label is not None)
            scores = [context.task.labels[label] for label in parsed]
            judgements.append(
                Judgement(sum(scores) / len(scores) if scores else None, parsed, len(labels) - len(parsed))
            )
        return judgements


@dataclass(frozen=True)
class Choice(Evaluator):
    """The expected label after the prompt ``value``, by the likelihood of each; one pass.

    Unknown where no label has a likelihood: all are impossible, or the backend gave numbers that are not finite.
    """

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
            expected = expected_label(scores.logprobs, context.task.labels)
            judgements.append(Judgement(None, (), 1) if expected is None else Judgement(expected[0], (expected[1],)))
        return judgements


@dataclass(frozen=True)
class Vote(Evaluator):
    """Votes for the best of several thoughts (Yao et al. 2023, section 3.3 b); a thought's value is its share."""

    together: ClassVar[bool] = True

    samples: Annotated[int, Ge(1)] | None = None
    """Votes cast; the task's own number when None."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt ``vote``."""
        task.require("vote", "the evaluator 'vote'")

    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """The one choice that a completion states for certain, counted from 1."""
        place = "|".join(thought.key for thought in thoughts)
        reply = await context.ask("vote", thoughts[0], place, n=self.samples, choices=thoughts)
        said = [read_vote(each.text, len(thoughts), cut=each.finish == "length") for each in reply.completions]
        votes = [vote for vote in said if vote is not None]
        unparsed = len(said) - len(votes)
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
            probability = _probability(scores.logprobs[0] / max(scores.lengths[0], 1))
            judgements.append(Judgement(probability, (), int(probability is None)))
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
        """Two passes a thought; the label is the likeliest. Unknown where one of the two is."""
        likely = await Likelihood().judge(thoughts, context)
        good = await Choice().judge(thoughts, context)
        judgements = []
        for step, state in zip(likely, good, strict=True):
            if step.value is None or state.value is None:
                judgements.append(Judgement(None, state.labels, step.unparsed + state.unparsed))
            else:
                value = step.value**self.alpha * state.value ** (1 - self.alpha)
                judgements.append(Judgement(value, state.labels))
        return judgements


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
        """No request is made; the check runs in a thread, so that limits of time hold."""
        pace = aio.Pace()
        return [
            Judgement(
                float(bool(await pace.in_thread(context.task.verify, context.input, context.steps(thought), None)))
                if thought.terminal
                else None
            )
            for thought in thoughts
        ]


def _probability(logprob: float) -> float | None:
    """From its logarithm, which may be minus infinity; None for a number that is no probability's logarithm."""
    return math.exp(min(logprob, 0.0)) if logprob < 1e-3 else None
