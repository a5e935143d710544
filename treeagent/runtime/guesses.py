"""The guesses of one search that are under way: judgements, expansions and answers that are asked for early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from .. import aio
from ..errors import TreeagentError
from ..reply import Reply
from ..task import Task
from ..thought import Thought
from .early_broker import EarlyBroker
from .early_entry import NotAnsweredError
from .early_requests import EarlyRequests
from .guarded_task import GuardedTask
from .outlook import Growth, Lost, Outlook
from .result import Counts
from .task_requests import TaskRequests
from .thought_judge import JudgedBy, Record, ThoughtJudge

Work: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"


class Guesses:
    """Starts guesses, and ends those that can no longer come true. An error ends its guess and is counted."""

    def __init__(
        self, task: Task, guarded: GuardedTask, input: str, outlook: Outlook, judge: JudgedBy | None,
        early: EarlyRequests, seed: int,
    ) -> None:  # fmt: skip
        self.judge = judge
        self._task, self._guarded, self._input, self._outlook = task, guarded, input, outlook
        self._early, self._seed = early, seed
        self._named: dict[tuple[str, int], asyncio.Task[None]] = {}
        """Judgements and answers by kind and the thought's id at that time."""
        self._tasks: set[asyncio.Task[None]] = set()

    def _requests(self, kind: str, chance: float) -> TaskRequests:
        broker = EarlyBroker(self._early, kind, chance)
        return TaskRequests(self._guarded, self._outlook, self._seed, broker, Counts())

    def judgements(self, growth: Growth, record: Record) -> None:
        """Have the children of an expansion judged that are not being judged; ``record`` gets the judgements."""
        if self.judge is None or not growth.judged or not growth.children:
            return
        together = self.judge.evaluator.together
        if together and (growth.real or not growth.whole):
            return  # judged against all others that the search expands with it
        kind = "judgement" if growth.real else "later"
        chance = growth.chance * self._early.chances[kind]
        for group in [growth.children] if together else [[child] for child in growth.children]:
            if ("judgement", group[0].id) not in self._named:
                judged = partial(self._judged, group, self._requests(kind, chance), record)
                self._named["judgement", group[0].id] = self._start(judged)

    async def _judged(self, group: Sequence[Thought], requests: TaskRequests, record: Record) -> None:
        if self.judge is not None:
            await ThoughtJudge(self.judge, self._task, self._input, self._outlook, requests, record)(group)

    def answer(self, thought: Thought, chance: float) -> asyncio.Task[None] | None:
        """Have the answer of a finished thought written; None where there is one, or no model writes it."""
        if thought.answer is not None or not self._task.has("answer"):
            return None
        if ("answer", thought.id) not in self._named:
            answered = partial(self._answered, thought, chance * self._early.chances["answer"])
            self._named["answer", thought.id] = self._start(answered)
        return self._named["answer", thought.id]

    async def _answered(self, thought: Thought, chance: float) -> None:
        await self._requests("answer", chance).complete("answer", thought, thought.place, n=1)

    def expand(self, growth: Growth, kind: str, heard: Callable[[Growth, Reply], None]) -> None:
        """Ask for the steps of an expansion; ``heard`` gets the reply."""
        growth.begin(self._start(partial(self._expanded, growth, kind, heard)))

    async def _expanded(self, growth: Growth, kind: str, heard: Callable[[Growth, Reply], None]) -> None:
        parent, requests = growth.parent, self._requests(kind, growth.chance)
        _, reply = await requests.complete(growth.role, parent, parent.place, visit=growth.visit, n=growth.n)
        heard(growth, reply)

    def _start(self, work: Work) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._silent(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _silent(self, work: Work) -> None:
        try:
            await work()
        except NotAnsweredError:
            pass
        except TreeagentError:
            self._early.count_error()

    def give_up(self, lost: Sequence[Lost]) -> None:
        """End the guesses about thoughts and expansions that cannot come about any more."""
        for each in lost:
            if isinstance(each, Growth):
                tasks = [each.task]
            else:
                tasks = [self._named.get((kind, each.id)) for kind in ("judgement", "answer")]
            for task in tasks:
                if task is not None:
                    task.cancel()

    async def close(self) -> None:
        """End all, and wait until they have ended."""
        await aio.cancel(list(self._tasks))
