"""What an evaluator sees of a search: the contract's EvaluationContext, one for each judgement."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from ..errors import RequestRefusedError
from ..reply import Reply, Scores
from ..request import RewardRequest
from ..task import Task
from ..thought import Thought
from .request_broker import EVALUATOR
from .task_requests import TaskRequests, ThoughtsById

T = TypeVar("T")


class JudgementContext:
    """Sends an evaluator's requests, and records their ids."""

    def __init__(self, task: Task, input: str, tree: ThoughtsById, requests: TaskRequests) -> None:
        self.task, self.input = task, input
        self._tree, self._requests = tree, requests
        self._ids: list[str | None] = []

    @property
    def answered(self) -> list[str]:
        """Ids of the answered requests of this judgement, in the order in which they were asked."""
        return [id for id in self._ids if id is not None]

    async def _noted(self, asking: Awaitable[tuple[str, T]]) -> T:
        """What a request is answered with; its id has the place at which it was asked."""
        place = len(self._ids)
        self._ids.append(None)
        self._ids[place], answer = await asking
        return answer

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""
        return self._tree.steps(thought)

    def parent(self, thought: Thought) -> Thought:
        """The thought that this one follows; the root follows itself."""
        return self._tree[thought.parent or 0]

    async def ask(
        self, role: str, thought: Thought, place: str, *, n: int | None = None, choices: Sequence[Thought] = ()
    ) -> Reply:
        """Complete the task's prompt of a role at a thought; at least one completion, none of them refused.

        Raises RequestRefusedError where there is none.
        """
        reply = await self._noted(self._requests.complete(role, thought, place, n=n, by=EVALUATOR, choices=choices))
        usable = tuple(completion for completion in reply.completions if completion.finish != "refused")
        if not usable:
            raise RequestRefusedError("the backend's reply has no completion")
        return replace(reply, completions=usable)

    async def score(self, role: str, thought: Thought, continuations: Sequence[str], *, after: str = "") -> Scores:
        """Log-likelihoods of continuations of the role's prompt at a thought. Raises RequestRefusedError."""
        return await self._noted(self._requests.score(role, thought, continuations, after))

    async def reward(
        self, thought: Thought, steps: Sequence[str], mark: str, good: str | None = None, bad: str | None = None
    ) -> Scores:
        """Log-rewards of steps of a thought's path, by a process reward model. Raises RequestRefusedError."""
        request = RewardRequest("", tuple(steps), mark=mark, good=good, bad=bad)
        return await self._noted(self._requests.reward(thought, request))
