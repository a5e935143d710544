"""Grows thoughts, has them judged and answered, for one search; keeps its tree, and reports what happens as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict

from .. import aio
from ..errors import RequestRefusedError
from ..reply import Reply
from ..search import Count
from ..task import Task
from ..text import strip_breaks
from ..thought import Judgement, Thought, Tree
from .budget import BudgetExhausted, Ledger
from .guarded_task import GuardedTask
from .journal import Event
from .request_broker import RequestBroker
from .result import Counts, CutOff
from .task_requests import TaskRequests, first_completion
from .thought_judge import JudgedBy, ThoughtJudge

Emit = Callable[[Event], None]


class TreeExplorer:
    """One search's view of one input; implements the contract :class:`treeagent.Explorer`."""

    def __init__(
        self,
        task: Task,
        input: str,
        judge: JudgedBy | None,
        broker: RequestBroker,
        ledger: Ledger,
        seed: int,
        emit: Emit,
        *,
        legality: bool = True,
    ) -> None:
        self.task, self.input, self.seed = task, input, seed
        self._guarded = GuardedTask(task, input)
        self.root = self._guarded.root()
        self.tree = Tree(self.root)
        self.counts = Counts()
        self._requests = TaskRequests(self._guarded, self.tree, seed, broker, self.counts)
        self._judge = (
            None if judge is None else ThoughtJudge(judge, task, input, self.tree, self._requests, self._record)
        )
        self._ledger, self._emit = ledger, emit
        self._legality = legality
        self._keys: set[tuple[int | None, str]] = set()
        self._visits: dict[int, int] = {}
        self._siblings: dict[int, int] = {}
        self._attempts: set[int] = set()
        self._pace, self._reading = aio.Pace(), asyncio.Lock()

    # Growing

    async def grow(
        self,
        thoughts: Sequence[Thought],
        *,
        role: str | None = None,
        n: Count = None,
        most: Count = None,
        apart: bool = False,
    ) -> list[list[Thought]]:
        """See :meth:`treeagent.Explorer.grow`. Raises BudgetExhausted after keeping all that was paid for."""
        return await self._grow(thoughts, role, n, most, apart=apart, judge=True)

    async def expand(
        self, thoughts: Sequence[Thought], *, role: str | None = None, n: Count = None
    ) -> list[list[Thought]]:
        """Like :meth:`grow`, without judging."""
        return await self._grow(thoughts, role, n, None, apart=False, judge=False)

    async def evaluate(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """The thoughts, judged."""
        if self._judge is None:
            raise TypeError("this search has no evaluator; set Search.evaluates")
        groups = [list(thoughts)] if self._judge.together else [[thought] for thought in thoughts]
        await aio.gather((self._judge(group) for group in groups if group), deferred=BudgetExhausted)
        return [self.tree[thought.id] for thought in thoughts]

    async def _grow(
        self, thoughts: Sequence[Thought], role: str | None, n: Count, most: Count, *, apart: bool, judge: bool
    ) -> list[list[Thought]]:
        role = role or ("propose" if self.task.has("propose") else "sample")
        judge_each = self._judge if judge and self._judge is not None and not self._judge.together else None
        expansions = list(zip(thoughts, _for_each(n, thoughts), _for_each(most, thoughts), strict=True))
        requests = [
            asyncio.ensure_future(self._ask_for_steps(thought, role, count)) for thought, count, _ in expansions
        ]
        judging: list[asyncio.Future[None]] = []
        grown: list[list[Thought]] = [[] for _ in thoughts]
        exhausted: BudgetExhausted | None = None
        try:
            for place in sorted(range(len(thoughts)), key=lambda place: thoughts[place].path):
                try:
                    reply = await requests[place]
                except BudgetExhausted as error:
                    exhausted = error
                    continue
                if reply is None:
                    continue  # refused: the branch ends here
                async with self._reading:  # reply by reply, so that no thread's speed decides on numbers
                    grown[place] = await self._read(thoughts[place], role, *reply, expansions[place][2], apart=apart)
                if judge_each is not None:
                    judging += [asyncio.ensure_future(judge_each([child])) for child in grown[place]]
            if exhausted is not None:
                raise exhausted
            await aio.gather(judging, deferred=BudgetExhausted)
            if judge and judge_each is None:
                await self.evaluate([child for children in grown for child in children])
        except BudgetExhausted:
            await aio.raise_failures([*requests, *judging], BudgetExhausted)
            raise
        finally:
            await aio.cancel([*requests, *judging])
        return [[self.tree[child.id] for child in children] for children in grown]

    async def _ask_for_steps(self, thought: Thought, role: str, n: int | None) -> tuple[str, Reply] | None:
        visit = self._visits.get(thought.id, 0)
        self._visits[thought.id] = visit + 1
        return await self._complete(role, thought, visit, n)

    async def _complete(self, role: str, thought: Thought, visit: int, n: int | None) -> tuple[str, Reply] | None:
        """The request's id and its reply; None for a refused request, which is counted and in the journal."""
        try:
            return await self._requests.complete(role, thought, thought.place, visit=visit, n=n)
        except RequestRefusedError:
            return None

    async def _read(
        self, parent: Thought, role: str, request: str, reply: Reply, most: int | None, *, apart: bool
    ) -> list[Thought]:
        """The new thoughts of a reply; unparsed, illegal and duplicate steps are counted and dropped unjudged."""
        steps = self.steps(parent)
        children: list[Thought] = []
        for sample, completion in enumerate(reply.completions):
            if completion.finish == "refused":
                continue
            proposed = await self._pace.in_thread(self._guarded.read_thoughts, role, completion.text, parent, steps)
            if not proposed and not completion.text.strip():
                self.counts.unparsed += 1
            for step in proposed:
                if len(children) == most:
                    return children
                index = self._siblings.get(parent.id, 0)
                self._siblings[parent.id] = index + 1
                fault = step.fault
                if fault == "illegal" and not self._legality:
                    self.counts.illegal += 1  # kept, but counted
                    fault = None
                path = (*parent.path, index)
                branch = path[0] if apart else None
                if fault is None and ((branch, step.key) in self._keys or step.key == self.root.key):
                    fault = "duplicate"
                if fault is not None:
                    self._drop(parent, index, step.text, fault, step.reason)
                    continue
                self._ledger.take_nodes(1)
                self._keys |= {(None, step.key), (path[0], step.key)}
                child = Thought(
                    len(self.tree), parent.id, step.text, step.state, step.key, parent.depth + 1,
                    path, step.terminal, request=request, sample=sample,
                )  # fmt: skip
                self._add(child)
                children.append(child)
        return children

    def _drop(self, parent: Thought, index: int, text: str, why: str, reason: str | None = None) -> None:
        if why == "duplicate":
            self.counts.duplicates += 1
        elif why == "illegal":
            self.counts.illegal += 1
        else:
            self.counts.unparsed += 1
        event = {"id": parent.id, "index": index, "text": text, "why": why, "reason": reason}
        self._emit(Event("dropped", event))

    def _add(self, thought: Thought) -> None:
        self.tree.add(thought)
        self.counts.thoughts += 1
        fields = ("id", "parent", "text", "state", "depth", "path", "terminal", "request", "sample")
        self._emit(Event("thought", {name: getattr(thought, name) for name in fields}))

    def _record(self, thought: Thought, judgement: Judgement, requests: Sequence[str]) -> None:
        self.tree.update(thought, judgement=judgement)
        self.counts.judged += 1
        self.counts.judgements_unparsed += judgement.unparsed
        self._emit(Event("judged", {"id": thought.id, **asdict(judgement), "requests": list(requests)}))

    # Answering

    async def attempt(self, role: str, n: int) -> list[Thought]:
        """See :meth:`treeagent.Explorer.attempt`."""
        n = self._ledger.take_nodes(n)  # before anything is paid
        visit = self._visits.get(self.root.id, 0)
        self._visits[self.root.id] = visit + n
        tasks = [asyncio.ensure_future(self._complete(role, self.root, visit + i, 1)) for i in range(n)]
        attempts: list[Thought] = []
        try:
            for index, task in enumerate(tasks):
                reply = await task
                completion = None if reply is None else first_completion(reply[1])
                if reply is None or completion is None:
                    continue
                text = strip_breaks(completion.text)
                answer = await self._pace.in_thread(self._guarded.read_answer, text)
                thought = Thought(
                    len(self.tree), self.root.id, text, self.root.state, f"{role} {visit + index}", 1,
                    (visit + index,), True, answer, request=reply[0], sample=0,
                )  # fmt: skip
                self._attempts.add(thought.id)
                self._add(thought)
                if answer is None:
                    self.counts.unparsed += 1
                else:
                    self._emit(Event("answer", {"id": thought.id, "answer": answer}))
                attempts.append(thought)
        except BudgetExhausted:
            await asyncio.gather(*tasks, return_exceptions=True)
            if not attempts:
                raise
        finally:
            await aio.cancel(tasks)
        return attempts

    async def finish(self, candidates: Sequence[Thought]) -> Thought | None:
        """Have each candidate's answer written; the first that the task verifies, else the first that has one."""
        answered = await aio.gather((self._answer(thought) for thought in candidates), deferred=BudgetExhausted)
        if self.task.can_verify:
            for thought in answered:
                if await self.verify(thought):
                    return thought
        return next((thought for thought in answered if thought.answer is not None), None)

    async def _answer(self, thought: Thought) -> Thought:
        thought = self.tree[thought.id]  # the caller's record may be older than the answer
        if thought.answer is not None or thought.id in self._attempts:
            return thought
        if self.task.has("answer"):
            reply = await self._complete("answer", thought, 0, 1)
            completion = None if reply is None else first_completion(reply[1])
            if completion is None:
                return thought
            answer = await self._pace.in_thread(self._guarded.read_answer, completion.text)
        else:
            answer = self.path_answer(thought)
        if answer is None:
            self.counts.unparsed += 1
            return thought
        self._emit(Event("answer", {"id": thought.id, "answer": answer}))
        return self.tree.update(thought, answer=answer)

    async def verify(self, thought: Thought) -> bool:
        """Whether the task's own check says that this thought solves the input; False where it cannot tell."""
        return bool(await self._pace.in_thread(self.verdict, thought, self.tree[thought.id].answer))

    def verified(self, thought: Thought) -> bool:
        """What :meth:`verify` says, at once."""
        return bool(self.verdict(thought, self.tree[thought.id].answer))

    def verdict(self, thought: Thought, answer: str | None) -> bool | None:
        """The task's verdict on an answer; None when it cannot tell. Raises PluginError."""
        return self._guarded.verify(self.steps(thought), answer)

    def path_answer(self, thought: Thought) -> str | None:
        """The answer of a path without a model. Raises ConfigError and PluginError."""
        return self._guarded.path_answer(thought, self.steps(thought))

    def steps(self, thought: Thought) -> list[str]:
        """The texts from the first step to this thought."""
        return self.tree.steps(thought)

    # What the replies lacked

    @property
    def cut_off(self) -> dict[str, CutOff]:
        """Completions that ended at the task's ``max_tokens``, by role."""
        return self._requests.cut_off

    @property
    def refusal(self) -> str | None:
        """The message of the first refused request."""
        return self._requests.refusal

    @property
    def all_refused(self) -> bool:
        """Whether requests were made and the backend refused every one."""
        return self.refusal is not None and not self._requests.answered


def _for_each(number: Count, thoughts: Sequence[Thought]) -> Sequence[int | None]:
    return [number] * len(thoughts) if number is None or isinstance(number, int) else number
