"""One search on one input: from its first request to its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..backend import Backend, Round
from ..errors import BackendError, JournalError
from ..evaluator import Evaluator
from ..search import Search
from ..task import Task
from ..text import argument
from ..thought import Thought, ranked
from . import factory
from .budget import Budget, BudgetExhausted, Ledger
from .explorer import TreeExplorer
from .journal import FORMAT, Event, Journal, rounds_event
from .request_broker import RequestBroker
from .result import Result

Handler = Callable[[Event], None]

_VERIFIED_AT_MOST = 5
"""How many final states an interrupted search may check, as many as a finished beam of the default width."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an agent solves inputs with."""

    task: Task
    search: Search
    evaluator: Evaluator | None
    backend: Backend
    judging: Backend
    """The evaluator's backend."""
    seed: int
    budget: Budget
    legality: bool
    """Whether illegal thoughts are dropped."""
    settings: dict[str, Any]
    """What a journal records of it."""


class Run:
    """One search on one input."""

    def __init__(
        self, setup: Setup, input: str, journal: Path | None, on_event: Handler | None, *, resume: bool
    ) -> None:
        self._setup, self._on_event = setup, on_event
        self.input = setup.task.read_input(argument(input))
        self._ledger = Ledger(setup.budget, setup.backend.price, setup.judging.price)
        self._journal = None if journal is None else Journal(journal, resume=resume)
        self._resumed = resume
        self._began = time.monotonic()
        self._figures: Callable[[], dict[str, Any]] = dict
        self._rounds: list[tuple[str | None, Callable[[], list[Round]]]] = []
        self._stopping: str | None = None
        self._searching: asyncio.Future[Thought | None] | None = None
        known = ({}, {}) if self._journal is None else (self._journal.replies, self._journal.scores)
        broker = RequestBroker((setup.backend, setup.judging), self._ledger, known, self._emit)
        self._explorer = TreeExplorer(
            setup.task, self.input, setup.evaluator, broker, self._ledger, setup.seed, self._emit,
            legality=setup.legality,
        )  # fmt: skip

    def stop(self, why: str = "interrupted") -> None:
        """End the search at its next await; :meth:`result` returns the best attempt so far."""
        self._stopping = self._stopping or why
        if self._searching is not None:
            self._searching.cancel()

    async def result(self) -> Result:
        """Run the search. Raises BackendError and JournalError; their ``result`` is the best attempt so far."""
        if self._searching is not None:
            raise RuntimeError("a run runs once; start another with Agent.run")
        self._began = time.monotonic()
        failure: BackendError | JournalError | None = None
        try:
            self._emit(Event("resumed", {"budget": asdict(self._setup.budget)}) if self._resumed else self._header())
            thought, ended = None, "finished"
            try:
                thought = self._explorer.solved_at_start() or await self._search()
                ended = self._ledger.cut or ended
            except BudgetExhausted as exhausted:
                ended = exhausted.limit
            except asyncio.CancelledError:
                if self._stopping is None:
                    raise
                ended = self._stopping
            except (BackendError, JournalError) as error:
                failure, ended = error, "failed"
                if isinstance(error, JournalError) and self._journal is not None:
                    self._journal.close()
                    self._journal = None  # it cannot be written; the result still goes to the caller
                self._emit(Event("failed", {"error": str(error)}))
            result = self._result(thought or self._best(cut=ended != "finished"), ended)
            self._emit(Event("end", result.to_json()))
        finally:
            self._rounds = []  # a run that is kept must not make the backend keep its rounds
            if self._journal is not None:
                self._journal.close()
        if failure is not None:
            failure.attach(result)
            raise failure
        return result

    async def _search(self) -> Thought | None:
        loop = asyncio.get_running_loop()
        backend, judging = self._setup.backend, self._setup.judging
        for used in dict.fromkeys((backend, judging)):
            await asyncio.to_thread(used.load)
        self._began = time.monotonic()  # a budget of seconds is for searching
        self._figures = factory.meters(backend, judging)
        self._rounds = [(used.model, used.rounds()) for used in dict.fromkeys((backend, judging))]
        self._searching = asyncio.ensure_future(self._setup.search.run(self._explorer))
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

    def _best(self, *, cut: bool) -> Thought | None:
        """The best thought so far: one with an answer, else the best terminal, else the deepest.

        One that verifies goes first, but only in a search that was cut short: the others have had their say.
        """
        tree = self._explorer.tree
        terminal = ranked(thought for thought in tree if thought.terminal)
        for thought in terminal[:_VERIFIED_AT_MOST] if cut else ():
            if self._explorer.verified(thought):
                return thought
        answered = [thought for thought in terminal if thought.answer is not None]
        others = [thought for thought in tree if thought.parent is not None]
        deepest = max((thought.depth for thought in others), default=0)
        return next(
            iter([*answered, *terminal, *ranked(thought for thought in others if thought.depth == deepest)]), None
        )

    def _result(self, thought: Thought | None, ended: str) -> Result:
        setup = self._setup
        steps: list[str] = []
        answer = None
        if thought is not None:
            thought = self._explorer.tree[thought.id]
            steps, answer = self._explorer.steps(thought), thought.answer
            if answer is None and thought.terminal and ended != "finished" and not setup.task.has("answer"):
                answer = setup.task.path_answer(self.input, thought, steps)  # a template needs no budget
        solved = setup.task.verify(self.input, steps, answer) if answer is not None else False
        return Result(
            self.input, answer, solved if setup.task.can_verify else None, tuple(steps), ended, self._ledger.spent,
            time.monotonic() - self._began, setup.seed, self._explorer.counts, self._explorer.tree, thought,
            setup.settings, self._figures(),
        )  # fmt: skip

    def _header(self) -> Event:
        setup = self._setup
        data = {
            "format": FORMAT,
            "input": self.input,
            "seed": setup.seed,
            "budget": asdict(setup.budget),
            "settings": setup.settings,
        }
        return Event("run", data)

    def _emit(self, event: Event) -> None:
        if event.type in ("completion", "scores", "end"):  # an answer follows the rounds that led to it
            for model, ended in self._rounds:
                if rounds := ended():
                    self._record(rounds_event(rounds, self._began, model))
        self._record(event)

    def _record(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.write(event, time.monotonic() - self._began)
        if self._on_event is not None:
            self._on_event(event)
