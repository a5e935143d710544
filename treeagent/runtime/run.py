"""One search on one input: from its first request to its result."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from .. import aio
from ..errors import InputError, JournalError, PluginError, TreeagentError
from ..plugin_boundary import PluginBoundary, at_input
from ..reply import Round
from ..text import argument
from ..thought import Thought, ranked
from . import factory
from .budget import BudgetExhausted, Ledger
from .early_requests import EarlyRequests
from .events import Event, FailedEvent, ResumedEvent, RunEvent
from .explorer import TreeExplorer
from .guarded_trace import GuardedTrace
from .journal import FORMAT, Journal, end_event, rounds_event
from .meters import meters
from .request_broker import EVALUATOR, KnownAnswers, RequestBroker
from .result import Result
from .setup import Setup
from .thought_judge import JudgedBy

Handler = Callable[[Event], None]
T = TypeVar("T")

_CHECK_SECONDS = 3.0
"""How long the task's checks of an interrupted search may take; what is not known by then stays unknown."""
_VERIFIED_AT_MOST = 5
"""How many final states an interrupted search may check, as many as a finished beam of the default width."""


class Run:
    """One search on one input."""

    def __init__(
        self, setup: Setup, input: str, journal: Path | None, on_event: Handler | None, *, resume: bool,
        row: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """``row`` has the fields of the input's data row that the task names (:meth:`treeagent.Task.for_row`)."""
        if not isinstance(input, str):
            raise InputError(f"an input is a text, such as {setup.task.examples[0]!r}, not {input!r:.60}")
        input = argument(input)
        with PluginBoundary("task", setup.task.name, at_input(input)):
            self.input = setup.task.read_input(input)
            setup = replace(setup, task=setup.task.for_row(self.input, row))
        self._setup, self._on_event, self._trace = setup, on_event, GuardedTrace(setup)
        self._ledger = Ledger(setup.budget, *(used.price for used in setup.asked))
        self._journal = None if journal is None else Journal(journal, resume=resume, fsync=setup.fsync)
        self._resumed = resume
        self._began = time.monotonic()
        self._figures: Callable[[], dict[str, Any]] = dict
        self._rounds: list[tuple[str | None, Callable[[], list[Round]]]] = []
        self._handler_error: BaseException | None = None
        self._stopping: str | None = None
        self._loading: asyncio.Future[None] | None = None
        self._searching: asyncio.Future[Thought | None] | None = None
        self._begun = False
        held = self._journal
        known = (
            KnownAnswers()
            if held is None
            else KnownAnswers(held.replies, held.scores, held.refusals, held.observations)
        )
        backends, where = setup.asked, at_input(self.input)
        self._early = EarlyRequests(
            backends, self._ledger, setup.chances, known.answer, where, self._seconds, list(setup.others)
        )
        broker = RequestBroker(backends, self._ledger, self._early, known, self._emit, where, setup.remaining)
        judge = None if setup.evaluator is None else JudgedBy(setup.evaluator, setup.name_of("evaluator"))
        self._explorer = TreeExplorer(
            setup.task, self.input, judge, broker, self._ledger, setup.seed, self._emit, legality=setup.legality
        )

    def stop(self, why: str = "interrupted") -> None:
        """End the search at its next await; :meth:`result` returns the best attempt so far."""
        self._stopping = self._stopping or why
        for work in (self._loading, self._searching):
            if work is not None:
                work.cancel()

    async def result(self) -> Result:
        """Run the search. Raises TreeagentError; its ``result`` is the best attempt so far."""
        if self._searching is not None:
            raise RuntimeError("a run runs once; start another with Agent.run")
        with self._setup.runs.holding(self):
            return await self._execute()

    async def _execute(self) -> Result:
        self._began = time.monotonic()
        failure: TreeagentError | None = None
        try:
            if not any(map(factory.shown_by_loading, self._setup.backends)):
                self._begin()  # else loading shows the model or the backend, which the first line names
            thought, ended = None, "finished"
            try:
                thought = self._solved_at_start() or await self._search()
                ended = self._ledger.cut or ("refused" if self._explorer.all_refused else ended)
            except BudgetExhausted as exhausted:
                ended = exhausted.limit
            except asyncio.CancelledError:
                if self._stopping is None:
                    raise
                ended = self._stopping
            except TreeagentError as error:
                failure, ended = error, "failed"
                if isinstance(error, JournalError) and self._journal is not None:
                    self._journal.close()
                    self._journal = None  # it cannot be written; the result still goes to the caller
                self._emit(FailedEvent(error=str(error)))
            result, fault = await self._result(thought, ended)
            failure = failure or fault
            self._emit(end_event(result))
            if self._setup.lengths is not None and ended == "finished":
                self._setup.lengths.learn(self._ledger.settled)
        finally:
            self._rounds = []  # a run that is kept must not make the backend keep its rounds
            self._trace.close()
            if self._journal is not None:
                self._journal.close()
        if self._handler_error is not None:
            raise self._handler_error
        if failure is not None:
            failure.attach(result)
            raise failure
        return result

    def _solved_at_start(self) -> Thought | None:
        """The root with its answer, which may be empty, where the task says that the input needs no step."""
        root, explorer = self._explorer.root, self._explorer
        return explorer.tree.update(root, answer=explorer.path_answer(root) or "") if root.terminal else None

    async def _search(self) -> Thought | None:
        loop = asyncio.get_running_loop()
        backend, judging, others = self._setup.backend, self._setup.judging, self._setup.others
        await self._load()
        self._began = time.monotonic()  # a budget of seconds is for searching
        self._begin()
        self._figures = meters(backend, judging, others)
        with PluginBoundary("backend", backend.name):
            self._rounds = [(used.model, used.rounds()) for used in self._setup.backends]
        # A step's observation cannot be guessed, nor what a search asks after it.
        early = 0 if self._explorer.acts else self._setup.early_requests()
        self._early.allow(early)
        self._searching = asyncio.ensure_future(self._run_search())
        if self._stopping is not None:
            self._searching.cancel()
        seconds = self._setup.budget.seconds
        timer = None if seconds is None else loop.call_later(seconds, self.stop, "seconds")
        try:
            return await self._searching
        finally:
            if timer is not None:
                timer.cancel()
            if not self._searching.done():
                self._searching.cancel()
                await asyncio.wait({self._searching})

    async def _run_search(self) -> Thought | None:
        task = self._setup.task
        name, inner = self._setup.name_of("search"), [("task", task.name, task)]
        with PluginBoundary("search", name, at_input(self.input), passing=[BudgetExhausted], inner=inner):
            try:
                thought = await self._setup.search.run(self._explorer)
            finally:
                await self._explorer.close()
                self._setup.python.learn(*self._explorer.task_seconds)
            if thought is not None and not isinstance(thought, Thought):
                raise TypeError(f"run returned {type(thought).__name__}, expected Thought or None")
            return None if thought is None else self._explorer.tree[thought.id]

    async def _load(self) -> None:
        """Load the backends; :meth:`stop` ends it. Raises BackendError, and CapabilityError for what loading shows."""
        loading = asyncio.ensure_future(self._setup.aload())
        self._loading = loading
        if self._stopping is not None:
            loading.cancel()
        await loading

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _begin(self) -> None:
        """Write the first line, unless it is there."""
        if not self._begun:
            self._begun = True
            self._emit(ResumedEvent(budget=self._setup.budget) if self._resumed else self._header())

    async def _best(self, check: Callable[..., Awaitable[Any]] | None) -> Thought | None:
        """The best thought so far: one with an answer, else the best terminal, else the deepest.

        Without an evaluator the most frequent answer is the best.

        One that verifies goes first, but only in a search that was cut short, which gives its ``check``: the others
        have had their say.
        """
        tree = self._explorer.tree
        terminal = ranked(thought for thought in tree if thought.terminal)
        if check is not None:
            for thought in terminal[:_VERIFIED_AT_MOST]:
                if await check(self._explorer.verified, thought):
                    return thought
        answered = [thought for thought in terminal if thought.answer is not None]
        if self._setup.evaluator is None:  # attempts, which vote
            votes = Counter(self._setup.task.answer_key(thought.answer or "") for thought in answered)
            answered.sort(key=lambda thought: -votes[self._setup.task.answer_key(thought.answer or "")])
        others = [thought for thought in tree if thought.parent is not None]
        deepest = max((thought.depth for thought in others), default=0)
        return next(
            iter([*answered, *terminal, *ranked(thought for thought in others if thought.depth == deepest)]), None
        )

    async def _result(self, thought: Thought | None, ended: str) -> tuple[Result, TreeagentError | None]:
        """The result, and the first error of the task or the backend on the way to it; what it concerns is unknown.

        The task's checks run in threads, which cannot be stopped: those of a search that was cut short are waited for
        as long as :data:`_CHECK_SECONDS` says.
        """
        setup, explorer = self._setup, self._explorer
        failures: list[TreeagentError] = []
        pace, until = aio.Pace(), time.monotonic() + _CHECK_SECONDS

        async def check(function: Callable[..., T], *arguments: Any) -> T | None:
            try:
                seconds = None if ended == "finished" else max(until - time.monotonic(), 0.1)
                return await asyncio.wait_for(pace.in_thread(function, *arguments), seconds)
            except TreeagentError as error:
                failures.append(error)
            except asyncio.TimeoutError:
                pass
            return None

        thought = thought or await self._best(None if ended == "finished" else check)
        steps: list[str] = []
        answer = None
        if thought is not None:
            best = explorer.tree[thought.id]
            steps, answer = explorer.steps(best), best.answer
            if answer is None and best.terminal and ended != "finished" and not setup.task.has("answer"):
                answer = await check(explorer.path_answer, best)  # a template needs no budget
            thought = best
        solved: bool | None = False
        if thought is not None and answer is not None:
            solved = await check(explorer.verdict, best, answer)
        figures: dict[str, Any] = {}
        try:
            figures = self._figures()
        except TreeagentError as error:
            failures.append(error)
        for event in self._early.events():
            self._emit(event)
        result = Result(
            self.input, answer, solved if setup.task.can_verify else None, tuple(steps), ended, self._ledger.spent,
            self._seconds(), setup.seed, explorer.counts, explorer.tree, thought, setup.settings,
            figures, explorer.cut_off, explorer.refusal, self._ledger.spent_at(EVALUATOR), self._early.figures,
            setup.by_model(self._ledger.spent_at),
        )  # fmt: skip
        return result, next(iter(failures), None)

    def _header(self) -> RunEvent:
        setup = self._setup
        return RunEvent(
            format=FORMAT, input=self.input, seed=setup.seed, budget=setup.budget, settings=setup.settings,
            row=dict(setup.task.row or {}),
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        if event.type in ("completion", "scores", "end"):  # an answer follows the rounds that led to it
            for model, ended in self._rounds:
                if rounds := ended():
                    self._record(rounds_event(rounds, self._began, model))
        self._record(event)

    def _record(self, event: Event) -> None:
        self._begin()
        if self._journal is not None:
            self._journal.write(event, self._seconds())
        self._trace.record(event, self._seconds())
        if self._on_event is not None:
            try:
                with PluginBoundary("event handler", getattr(self._on_event, "__qualname__", "on_event")):
                    self._on_event(event)
            except PluginError as error:
                self._on_event = None  # the search ends, and the caller gets the error of its own code as it is
                self._handler_error = error.__cause__
                raise
