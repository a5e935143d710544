"""Grows thoughts and has them judged, for one search; keeps its tree, and reports what happens as events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from .. import aio
from ..errors import RequestRefusedError
from ..plugin_boundary import at_input
from ..reply import Reply
from ..search import MAIN, After, Count
from ..task import Task
from ..thought import Thought
from .answer_writer import AnswerWriter
from .budget import BudgetExhausted, Ledger
from .guarded_task import GuardedTask
from .guesses import Guesses
from .lookahead import Lookahead
from .outlook import Growth, Outlook
from .request_broker import GENERATOR, RequestBroker
from .result import CutOff
from .task_requests import TaskRequests
from .thought_judge import JudgedBy, ThoughtJudge
from .tree_places import TreePlaces
from .tree_record import Emit, TreeRecord


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
        self._record = TreeRecord(self.root, emit)
        self.tree, self.counts = self._record.tree, self._record.counts
        self._requests = TaskRequests(self._guarded, self.tree, seed, broker, self.counts)
        self._judge = (
            None if judge is None else ThoughtJudge(judge, task, input, self.tree, self._requests, self._record.judged)
        )
        self._ledger, self._legality, self._models = ledger, legality, broker.places
        self._places = TreePlaces(self.root)
        self._answers = AnswerWriter(task, self._guarded, self._record, self._places, self._requests, ledger)
        self._pace, self._reading = aio.Pace(), asyncio.Lock()
        outlook = Outlook(self.tree, self._places, legality=legality)
        guesses = Guesses(task, self._guarded, input, outlook, judge, broker.early, seed)
        self._observer = broker.observer(self._guarded, legality=legality)
        self._ahead = Lookahead(self._guarded, outlook, guesses, broker.early, seed, at_input(input))

    @property
    def acts(self) -> bool:
        """Whether steps act on a world that must be observed."""
        return self._observer is not None

    @property
    def models(self) -> Sequence[str]:
        """See :attr:`treeagent.Explorer.models`."""
        return tuple(self._models)

    @property
    def spent(self) -> float:
        """See :attr:`treeagent.Explorer.spent`."""
        return self._ledger.share()

    @property
    def task_seconds(self) -> tuple[float, int]:
        """Seconds that the task's prompts and its reading of steps have taken, and the number of prompts."""
        return self._guarded.seconds, self._guarded.prompts

    # Growing

    async def grow(
        self,
        thoughts: Sequence[Thought],
        *,
        role: str | None = None,
        n: Count = None,
        most: Count = None,
        apart: bool = False,
        models: Sequence[str] | None = None,
    ) -> list[list[Thought]]:
        """See :meth:`treeagent.Explorer.grow`. Raises BudgetExhausted after keeping all that was paid for."""
        by = [GENERATOR if models is None else self._models[name] for name in models or (MAIN,) * len(thoughts)]
        return await self._grow(thoughts, role, by, n, most, apart=apart, judge=True)

    async def expand(
        self, thoughts: Sequence[Thought], *, role: str | None = None, n: Count = None
    ) -> list[list[Thought]]:
        """Like :meth:`grow`, without judging."""
        return await self._grow(thoughts, role, [GENERATOR] * len(thoughts), n, None, apart=False, judge=False)

    async def evaluate(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """The thoughts, judged."""
        if self._judge is None:
            raise TypeError("this search has no evaluator; set Search.evaluates")
        groups = [list(thoughts)] if self._judge.together else [[thought] for thought in thoughts]
        await aio.gather((self._judge(group) for group in groups if group), deferred=BudgetExhausted)
        return [self.tree[thought.id] for thought in thoughts]

    def likely(
        self, thoughts: Iterable[Thought], *, after: After | None = None, role: str | None = None, n: int | None = None
    ) -> None:
        """See :meth:`treeagent.Explorer.likely`."""
        self._ahead.likely(thoughts, after, role, n)

    def visited(self, statistics: Iterable[tuple[Thought, int, float | None]]) -> None:
        """See :meth:`treeagent.Explorer.visited`."""
        self._record.visited(statistics)

    async def _grow(
        self, thoughts: Sequence[Thought], role: str | None, by: Sequence[int], n: Count, most: Count, *,
        apart: bool, judge: bool,
    ) -> list[list[Thought]]:  # fmt: skip
        role = role or ("propose" if self.task.has("propose") else "sample")
        judge_each = self._judge if judge and self._judge is not None and not self._judge.together else None
        growths = self._ahead.begin(
            [
                Growth(thought, role, count, limit, apart, judge, self._places.visit(thought), place)
                for thought, place, count, limit in zip(
                    thoughts, by, _for_each(n, thoughts), _for_each(most, thoughts), strict=True
                )
            ]
        )
        requests = [asyncio.ensure_future(self._ask_for_steps(growth)) for growth in growths]
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
                    grown[place] = await self._read(growths[place], *reply)
                self._ahead.read(growths[place], grown[place])
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
            self._ahead.end(growths)
        return [[self.tree[child.id] for child in children] for children in grown]

    async def _ask_for_steps(self, growth: Growth) -> tuple[str, Reply] | None:
        """The request's id and its reply; None for a refused request, which is counted and in the journal."""
        thought = growth.parent
        try:
            id, reply = await self._requests.complete(
                growth.role, thought, thought.place, visit=growth.visit, n=growth.n, by=growth.by
            )
        except RequestRefusedError:
            return None
        self._ahead.hear_all(growth, reply)
        return id, reply

    async def close(self) -> None:
        """End all that was begun early; to be called when the search has ended in any way."""
        if self._observer is not None:
            await self._observer.close()
        await self._ahead.close()

    async def _read(self, growth: Growth, request: str, reply: Reply) -> list[Thought]:
        """The new thoughts of a reply; unparsed, illegal and duplicate steps are counted and dropped unjudged."""
        parent, role, most, apart = growth.parent, growth.role, growth.most, growth.apart
        steps = self.steps(parent)
        children: list[Thought] = []
        if self._observer is not None:
            await self._observer.begin_all(growth, reply, steps)
        for sample, completion in enumerate(reply.completions):
            if completion.finish == "refused":
                continue
            proposed = await self._pace.in_thread(self._guarded.read_thoughts, role, completion.text, parent, steps)
            if not proposed and not completion.text.strip():
                self._record.count(unparsed=1)
            for written in proposed:
                step = written
                if len(children) == most:
                    return children
                index = self._places.index(parent)
                fault = step.fault
                if fault == "illegal" and not self._legality:
                    self._record.count(illegal=1)  # kept
                    fault = None
                path = (*parent.path, index)
                if fault is None and self._observer is not None:
                    step, fault = await self._observer.observed(step, parent, steps)
                if fault is None and self._places.is_taken(step.key, path[0] if apart else None):
                    fault = "duplicate"
                if fault is not None:
                    self._record.drop(parent, index, step, fault)
                    continue
                self._ledger.take_nodes(1)
                self._places.take(step.key, path[0])
                child = Thought(
                    len(self.tree), parent.id, step.text, step.state, step.key, parent.depth + 1,
                    path, step.terminal, request=request, sample=sample, model=self._model_at(growth.by),
                )  # fmt: skip
                children.append(self._record.add(child))
        return children

    def _model_at(self, place: int) -> str | None:
        """The name of a model; None where there is only one."""
        return next(name for name, at in self._models.items() if at == place) if len(self._models) > 1 else None

    # Answering

    async def attempt(self, role: str, n: int) -> list[Thought]:
        """See :meth:`treeagent.Explorer.attempt`."""
        return await self._answers.attempt(role, n)

    async def finish(self, candidates: Sequence[Thought]) -> Thought | None:
        """Have each candidate's answer written; the first that the task verifies, else the first that has one."""
        return await self._answers.finish(candidates)

    async def reflect(self, thoughts: Sequence[Thought]) -> None:
        """See :meth:`treeagent.Explorer.reflect`."""
        await self._answers.reflect(thoughts)

    async def verify(self, thought: Thought) -> bool:
        """Whether the task's own check says that this thought solves the input; False where it cannot tell."""
        return await self._answers.verify(thought)

    def verified(self, thought: Thought) -> bool:
        """What :meth:`verify` says, at once."""
        return bool(self._answers.verdict(thought, self.tree[thought.id].answer))

    def verdict(self, thought: Thought, answer: str | None) -> bool | None:
        """The task's verdict on an answer; None when it cannot tell. Raises PluginError."""
        return self._answers.verdict(thought, answer)

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
