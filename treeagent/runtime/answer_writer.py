"""Has answers written and checked, for one search: complete attempts, and the answers of thoughts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .. import aio
from ..errors import RequestRefusedError
from ..reply import Reply
from ..task import Task
from ..text import strip_breaks
from ..thought import Thought
from .budget import BudgetExhausted, Ledger
from .guarded_task import GuardedTask
from .task_requests import TaskRequests, first_completion
from .tree_places import TreePlaces
from .tree_record import TreeRecord


class AnswerWriter:
    """Asks for answers, reads them, and has the task check them."""

    def __init__(
        self,
        task: Task,
        guarded: GuardedTask,
        record: TreeRecord,
        places: TreePlaces,
        requests: TaskRequests,
        ledger: Ledger,
    ) -> None:
        self._task, self._guarded, self._record, self._tree = task, guarded, record, record.tree
        self._places, self._requests, self._ledger = places, requests, ledger
        self._attempts: set[int] = set()
        self._pace = aio.Pace()

    async def attempt(self, role: str, n: int) -> list[Thought]:
        """See :meth:`treeagent.Explorer.attempt`."""
        n, root = self._ledger.take_nodes(n), self._tree.root  # before anything is paid
        visit = self._places.visit(root, n)
        tasks = [asyncio.ensure_future(self._complete(role, root, visit + i)) for i in range(n)]
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
                    len(self._tree), root.id, text, root.state, f"{role} {visit + index}", 1,
                    (visit + index,), True, answer, request=reply[0], sample=0,
                )  # fmt: skip
                self._attempts.add(thought.id)
                attempts.append(self._record.answered(self._record.add(thought), answer))
        except BudgetExhausted:
            await asyncio.gather(*tasks, return_exceptions=True)
            if not attempts:
                raise
        finally:
            await aio.cancel(tasks)
        return attempts

    async def finish(self, candidates: Sequence[Thought]) -> Thought | None:
        """See :meth:`treeagent.Explorer.finish`."""
        answered = await aio.gather((self._answer(thought) for thought in candidates), deferred=BudgetExhausted)
        if self._task.can_verify:
            for thought in answered:
                if await self.verify(thought):
                    return thought
        return next((thought for thought in answered if thought.answer is not None), None)

    async def _answer(self, thought: Thought) -> Thought:
        thought = self._tree[thought.id]  # the caller's record may be older than the answer
        if thought.answer is not None or thought.id in self._attempts:
            return thought
        if self._task.has("answer"):
            reply = await self._complete("answer", thought, 0)
            completion = None if reply is None else first_completion(reply[1])
            if completion is None:
                return thought
            answer = await self._pace.in_thread(self._guarded.read_answer, completion.text)
        else:
            answer = self._guarded.path_answer(thought, self._tree.steps(thought))
        return self._record.answered(thought, answer)

    async def reflect(self, thoughts: Sequence[Thought]) -> None:
        """See :meth:`treeagent.Explorer.reflect`."""
        replies = await aio.gather(
            (self._complete("reflect", thought, 0) for thought in thoughts), deferred=BudgetExhausted
        )
        for reply in replies:
            completion = None if reply is None else first_completion(reply[1])
            if completion is not None and (reflection := completion.text.strip()):
                self._guarded.reflect_on(reflection)

    async def _complete(self, role: str, thought: Thought, visit: int) -> tuple[str, Reply] | None:
        """The request's id and its reply; None for a refused request, which is counted and in the journal."""
        try:
            return await self._requests.complete(role, thought, thought.place, visit=visit, n=1)
        except RequestRefusedError:
            return None

    async def verify(self, thought: Thought) -> bool:
        """See :meth:`treeagent.Explorer.verify`."""
        return bool(await self._pace.in_thread(self.verdict, thought, self._tree[thought.id].answer))

    def verdict(self, thought: Thought, answer: str | None) -> bool | None:
        """The task's verdict on an answer; None when it cannot tell. Raises PluginError."""
        return self._guarded.verify(self._tree.steps(thought), answer)
