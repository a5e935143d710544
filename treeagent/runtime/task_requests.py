"""Requests of one search: a role's prompt at a thought, sampled as the task says, under a key of its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .. import aio
from ..backend import Key, Reply, Request, ScoreRequest, Scores
from ..task import Task
from ..thought import Thought, Tree
from .request_broker import GENERATOR, RequestBroker


class TaskRequests:
    """Builds requests from a task and the thoughts of a tree, and sends them."""

    def __init__(self, task: Task, input: str, tree: Tree, seed: int, broker: RequestBroker) -> None:
        self.task, self.input, self.tree, self.seed = task, input, tree, seed
        self._broker = broker
        self._pace, self._turn = aio.Pace(), asyncio.Lock()

    async def complete(
        self,
        role: str,
        thought: Thought,
        place: str,
        *,
        visit: int = 0,
        n: int | None = None,
        by: int = GENERATOR,
        choices: Sequence[Thought] = (),
    ) -> tuple[str, Reply]:
        """The request's id and its reply; ``n`` defaults to the task's. Raises BudgetExhausted, BackendError."""
        sampling, count = self.task.sampling(role)
        shown = [{"state": choice.state, "text": choice.text, "steps": self.tree.steps(choice)} for choice in choices]
        prompt = await self._prompt(role, thought, shown)
        request = Request(prompt, Key(self.seed, role, place, visit), sampling, count if n is None else n)
        return await self._broker.complete(request, role, thought.id, by)

    async def score(self, role: str, thought: Thought, continuations: Sequence[str]) -> tuple[str, Scores]:
        """The request's id and the log-likelihoods of continuations. Raises BudgetExhausted, BackendError."""
        prompt = await self._prompt(role, thought)
        return await self._broker.score(ScoreRequest(prompt, tuple(continuations)), thought.id)

    async def _prompt(self, role: str, thought: Thought, choices: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt; one after the other, so that a timer and Ctrl-C come between prompts that take long."""
        async with self._turn:
            began = time.monotonic()
            prompt = self.task.prompt(role, self.input, thought, self.tree.steps(thought), choices)
            await self._pace.spent(time.monotonic() - began)
        return prompt
