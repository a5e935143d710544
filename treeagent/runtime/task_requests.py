"""Requests of one search: a role's prompt at a thought, sampled as the task says, under a key of its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from .. import aio
from ..chat import Message
from ..errors import RequestRefusedError
from ..reply import Completion, Reply, Scores
from ..request import Key, Request, RewardRequest, ScoreRequest
from ..thought import Thought
from .guarded_task import GuardedTask
from .request_broker import GENERATOR
from .result import Counts, CutOff


class ThoughtsById(Protocol):
    """Where thoughts are looked up."""

    def __getitem__(self, id: int, /) -> Thought: ...

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to a thought."""


class Broker(Protocol):
    """Who sends requests; returns their ids with the answers."""

    def name_of(self, place: int) -> str:
        """The name of a further model; empty for the generator's own and the evaluator's."""

    async def complete(self, request: Request, role: str, thought: int, place: int = GENERATOR) -> tuple[str, Reply]:
        """The request's id, which a short budget may change, and its reply."""

    async def score(self, request: ScoreRequest, role: str, thought: int) -> tuple[str, Scores]:
        """The request's id and log-likelihoods."""


class TaskRequests:
    """Builds requests from a task and the thoughts of a tree, sends them, and counts what their replies lack."""

    def __init__(self, task: GuardedTask, tree: ThoughtsById, seed: int, broker: Broker, counts: Counts) -> None:
        self._task, self._tree, self._seed, self._broker, self._counts = task, tree, seed, broker, counts
        self._pace, self._turn = aio.Pace(), asyncio.Lock()
        self._cut_off: dict[str, CutOff] = {}
        self.answered = False
        """Whether any request had an answer."""
        self.refusal: str | None = None
        """The message of the first refused request."""

    @property
    def cut_off(self) -> dict[str, CutOff]:
        """Completions that ended at the task's ``max_tokens``, by role, in the order of the names."""
        return dict(sorted(self._cut_off.items()))

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
        """The request's id and its reply; ``n`` defaults to the task's, and ``by`` is the place of a backend.

        The reply may have fewer completions, and refused ones among them; all are counted. Raises BudgetExhausted,
        RequestRefusedError, which is counted, and other BackendErrors.
        """
        sampling, count = self._task.sampling(role)
        shown = [{"state": choice.state, "text": choice.text, "steps": self._tree.steps(choice)} for choice in choices]
        prompt, messages = await self._prompt(role, thought, shown)
        key = Key(self._seed, role, place, visit, self._broker.name_of(by))
        request = Request(prompt, key, sampling, count if n is None else n, messages)
        try:
            id, reply = await self._broker.complete(request, role, thought.id, by)
        except RequestRefusedError as refusal:
            self._refused(str(refusal))
            raise
        # A budget that is nearly used up shortens a request and so changes its id; max_tokens is not to blame then.
        self._count(reply, request.n, role if id == request.id else None)
        return id, reply

    async def score(
        self, role: str, thought: Thought, continuations: Sequence[str], after: str = ""
    ) -> tuple[str, Scores]:
        """The request's id and the log-likelihoods of continuations of the role's prompt with ``after`` behind it.

        Raises what :meth:`complete` raises.
        """
        prompt, messages = await self._prompt(role, thought)
        sampling, _ = self._task.sampling(role)
        chat = sampling.chat(messages).without_budget()
        return await self._score(ScoreRequest(prompt + after, tuple(continuations), chat), role, thought)

    async def reward(self, thought: Thought, request: RewardRequest) -> tuple[str, Scores]:
        """The request's id and the rewards of its steps, after the prompt ``prm`` or the input of a task without it."""
        prompt, _ = await self._prompt("prm", thought)
        return await self._score(replace(request, prompt=prompt), "prm", thought)

    async def _score(self, request: ScoreRequest, role: str, thought: Thought) -> tuple[str, Scores]:
        try:
            id, scores = await self._broker.score(request, role, thought.id)
        except RequestRefusedError as refusal:
            self._refused(str(refusal))
            raise
        self.answered = True
        return id, scores

    async def _prompt(
        self, role: str, thought: Thought, choices: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[str, tuple[Message, ...]]:
        """The prompt and the messages before it.

        One after the other, so that a timer and Ctrl-C come between prompts that take long.
        """
        async with self._turn:
            began = time.monotonic()
            steps = self._tree.steps(thought)
            prompt = self._task.prompt(role, thought, steps, choices)
            messages = self._task.messages(role, thought, steps, choices)
            await self._pace.spent(time.monotonic() - began)
        return prompt, messages

    def _refused(self, message: str) -> None:
        self._counts.add(refused=1)
        self.refusal = self.refusal or message

    def _count(self, reply: Reply, wanted: int, role: str | None) -> None:
        """Count what the reply lacks; ``role`` is None where the budget and not the task cut its completions off."""
        self._counts.add(missing=max(0, wanted - len(reply.completions)))
        for completion in reply.completions:
            if completion.finish == "refused":
                self._refused("the backend's filter refused a completion")
                continue
            self.answered = True
            if completion.finish == "length":
                empty = not completion.text.strip()
                self._counts.add(truncated=1, empty=empty)
                if role is not None:
                    before = self._cut_off.get(role, CutOff())
                    self._cut_off[role] = before.plus(empty=empty, thinking=empty and bool(completion.reasoning))


def first_completion(reply: Reply) -> Completion | None:
    """The completion of a request for one; None where it was refused or did not come."""
    return next((completion for completion in reply.completions if completion.finish != "refused"), None)
