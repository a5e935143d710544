"""The contract of an evaluator: thoughts in, judgements out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from .thought import Judgement, Thought

if TYPE_CHECKING:
    from .reply import Reply, Scores
    from .task import Task


class EvaluationContext(Protocol):
    """What an evaluator may use. Every request passes the budget and the journal."""

    @property
    def task(self) -> Task:
        """What the input belongs to. It holds no gold answers."""

    @property
    def input(self) -> str:
        """In the form that prompts show."""

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""

    def parent(self, thought: Thought) -> Thought:
        """The thought that this one follows."""

    async def ask(
        self, role: str, thought: Thought, place: str, *, n: int | None = None, choices: Sequence[Thought] = ()
    ) -> Reply:
        """Complete the task's prompt of a role; ``place`` goes into the key, ``n`` defaults to the task's."""

    async def score(self, role: str, thought: Thought, continuations: Sequence[str], *, after: str = "") -> Scores:
        """Log-likelihoods of continuations of the role's prompt at a thought; ``after`` is added to the prompt."""

    async def reward(
        self, thought: Thought, steps: Sequence[str], mark: str, good: str | None = None, bad: str | None = None
    ) -> Scores:
        """Log-rewards of steps after the prompt ``prm``, else the input; see :class:`treeagent.request.RewardRequest`.

        Needs the capability ``rewards``.
        """


class Evaluator(ABC):
    """Judges thoughts. Subclasses are dataclasses; their fields are options."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Backend capabilities it cannot do without."""
    together: ClassVar[bool] = False
    """Whether thoughts are judged against each other; if not, each is judged alone, as soon as it exists."""

    @abstractmethod
    async def judge(self, thoughts: Sequence[Thought], context: EvaluationContext) -> list[Judgement]:
        """One judgement a thought, in order; a single thought when ``together`` is false."""

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks what this evaluator needs; called before the first request."""
