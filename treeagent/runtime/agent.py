"""The agent: a task, a search, an evaluator and a backend, ready to solve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..backend import Backend, Round
from ..errors import BackendError, ConfigError, JournalError, TreeagentError
from ..evaluator import Evaluator
from ..search import Search
from ..task import ROLES, Scalar, Task
from ..thought import Thought, ranked
from . import factory
from .budget import Budget, BudgetExhausted, Ledger
from .explorer import Explorer
from .journal import FORMAT, Event, Journal, read, recorded, rounds_event
from .result import Result

Handler = Callable[[Event], None]


class Agent:
    """Solves inputs of one task. Safe to keep, to share and to use for many inputs, one after another or at once.

    Args:
        task: a registered name, a path to a YAML file, or a Task.
        search: a registered name (``bfs``), ``module:Class``, or a Search.
        backend: a registered name, ``module:Class``, or a Backend.
        model: what the backend should open; its own default when None.
        evaluator_model: another model for the evaluator's requests, on a backend of the same kind (``seed`` shares its
            draft model between the two), or a Backend for them; None: the generator's.
        evaluator: a registered name, ``module:Class``, or an Evaluator; the task's own choice when None.
        options: options by name; ``evaluator.`` and ``backend.`` prefixes reach those two.
        seed: every random choice derives from it.
        legality: False keeps illegal thoughts, for measuring what the filter is worth.

    Raises ConfigError, UnknownNameError or CapabilityError at once, before any request.
    """

    def __init__(
        self,
        task: str | Path | Task,
        search: str | Search = "bfs",
        *,
        backend: str | Backend = "transformers",
        model: str | None = None,
        evaluator: str | Evaluator | None = None,
        evaluator_model: str | Backend | None = None,
        options: Mapping[str, Any] | None = None,
        variables: Mapping[str, Scalar] | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        legality: bool = True,
        allow_code: bool = False,
    ) -> None:
        own, evaluator_options, backend_options = factory.split(options or {})
        self.seed, self.budget, self.legality = seed, budget or Budget(), legality
        self.task = task if isinstance(task, Task) else Task.load(task, variables=variables, allow_code=allow_code)
        self.search: Search = factory.make("search", search, own)
        evaluator = self.task.evaluator if evaluator is None else evaluator
        self.evaluator: Evaluator | None = (
            factory.make("evaluator", evaluator, evaluator_options) if self.search.evaluates else None
        )
        if self.evaluator is None and evaluator_options:
            raise ConfigError(f"the search {search!r} uses no evaluator, but evaluator options are given")
        self.backend: Backend = factory.open_backend(backend, model, backend_options)
        self.judging: Backend = self._second(evaluator_model)
        """The evaluator's backend."""
        prices = (self.backend.price, self.judging.price)
        Ledger(self.budget, *prices)  # raises ConfigError for a limit that could not be kept
        self.settings: dict[str, Any] = {
            "task": factory.task_reference(task, self.task),
            "task_version": self.task.version,
            "variables": dict(self.task.variables),
            "search": {"name": factory.name(search), **factory.fields(self.search)},
            "evaluator": {"name": factory.name(evaluator), **factory.fields(self.evaluator)}
            if self.evaluator
            else None,
            "backend": self.backend.describe(),
            "evaluator_model": self.judging.describe() if isinstance(evaluator_model, Backend) else evaluator_model,
            "legality": legality,
        }
        self.search.check(self.task)
        if self.evaluator is not None:
            self.evaluator.check(self.task)
            factory.check_offers(self.judging, self.evaluator.needs, f"the evaluator {factory.name(evaluator)!r}")
        beams = [role for role in ROLES if self.task.sampling(role)[0].num_beams > 1]
        for each in dict.fromkeys((self.backend, self.judging)) if beams else ():
            factory.check_offers(
                each, frozenset({"beams"}), f"sampling.{beams[0]}.num_beams of the task {self.task.name!r}"
            )

    def _second(self, model: str | Backend | None) -> Backend:
        """The evaluator's backend. Raises ConfigError."""
        if model is None:
            return self.backend
        if self.evaluator is None:
            raise ConfigError(
                f"the search {factory.name(self.search)!r} uses no evaluator, but a model for one is given: "
                f"{model if isinstance(model, str) else model.name}"
            )
        return model if isinstance(model, Backend) else self.backend.beside(model)

    def solve(self, input: str, **how: Any) -> Result:
        """Solve one input and wait for it; takes what :meth:`asolve` takes. Raises as it does."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.asolve(input, **how))
        raise TreeagentError("an event loop is running here: use 'await agent.asolve(...)' instead of agent.solve(...)")

    async def asolve(self, input: str, *, journal: str | Path | None = None, on_event: Handler | None = None) -> Result:
        """Solve one input.

        Raises InputError, JournalError or BackendError; the ``result`` of the last two is the best attempt so far.
        """
        return await self.run(input, journal=journal, on_event=on_event).result()

    async def stream(self, input: str, *, journal: str | Path | None = None) -> AsyncIterator[Event | Result]:
        """Events as they happen, then the Result. Leaving the loop early stops the search."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        run = self.run(input, journal=journal, on_event=queue.put_nowait)
        ending = asyncio.ensure_future(run.result())
        ending.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            yield ending.result()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    def run(
        self, input: str, *, journal: str | Path | None = None, on_event: Handler | None = None, resume: bool = False
    ) -> Run:
        """A run that has not begun; for apps that want to stop it themselves."""
        return Run(self, input, None if journal is None else Path(journal), on_event, resume)

    @classmethod
    def from_journal(cls, path: str | Path, **changes: Any) -> tuple[Agent, str]:
        """Agent and input of a journalled run. Raises JournalError, or ConfigError when the task has changed."""
        events = read(Path(path))
        data = recorded(events)
        if not data:
            raise JournalError(f"{path}: there is nothing to resume; the journal holds no whole line")
        try:
            input, settings, given = str(data["input"]), data["settings"], factory.given(data)
            task, search, version = settings["task"], settings["search"]["name"], settings["task_version"]
        except (KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"{path}:1: the journal's first line is damaged ({error!r}); it cannot be resumed"
            ) from error
        agent = cls(task, search, **{**given, **changes})
        if agent.settings["task_version"] != version:
            raise ConfigError(
                f"the journal was written with version {version} of task {agent.task.name!r}, "
                f"which is now at version {agent.settings['task_version']}"
            )
        return agent, input


class Run:
    """One search on one input."""

    def __init__(self, agent: Agent, input: str, journal: Path | None, on_event: Handler | None, resume: bool) -> None:
        self._agent, self._on_event = agent, on_event
        self.input = agent.task.read_input(input)
        self._ledger = Ledger(agent.budget, agent.backend.price, agent.judging.price)
        self._journal = None if journal is None else Journal(journal, resume=resume)
        self._resumed = resume
        self._began = time.monotonic()
        self._figures: Callable[[], dict[str, Any]] = dict
        self._rounds: list[tuple[str | None, Callable[[], list[Round]]]] = []
        self._stopping: str | None = None
        self._searching: asyncio.Future[Thought | None] | None = None
        known = ({}, {}) if self._journal is None else (self._journal.replies, self._journal.scores)
        self._explorer = Explorer(
            agent.task, self.input, (agent.backend, agent.judging), agent.evaluator, self._ledger, agent.seed,
            self._emit, known, legality=agent.legality,
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
            self._emit(Event("resumed", {"budget": asdict(self._agent.budget)}) if self._resumed else self._header())
            thought, ended = None, "finished"
            try:
                thought = await self._search()
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
                    self._journal = None  # the disk has refused; what is in memory goes to the caller
                self._emit(Event("failed", {"error": str(error)}))
            result = self._result(thought or self._best(cut=ended != "finished"), ended)
            self._emit(Event("end", result.to_json()))
        finally:
            self._rounds = []  # whoever keeps this run must not make the backend keep its rounds
            if self._journal is not None:
                self._journal.close()
        if failure is not None:
            failure.result = result
            raise failure
        return result

    async def _search(self) -> Thought | None:
        loop = asyncio.get_running_loop()
        backend, judging = self._agent.backend, self._agent.judging
        for each in dict.fromkeys((backend, judging)):
            await asyncio.to_thread(each.load)
        self._began = time.monotonic()  # a budget of seconds is for searching
        self._figures = factory.meters(backend, judging)
        self._rounds = [(each.model, each.rounds()) for each in dict.fromkeys((backend, judging))]
        self._searching = asyncio.ensure_future(self._agent.search.run(self._explorer))
        if self._stopping is not None:
            self._searching.cancel()
        seconds = self._agent.budget.seconds
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
        agent = self._agent
        steps: list[str] = []
        answer = None
        if thought is not None:
            thought = self._explorer.tree[thought.id]
            steps, answer = self._explorer.steps(thought), thought.answer
            if answer is None and thought.terminal and ended != "finished" and not agent.task.has("answer"):
                answer = agent.task.path_answer(self.input, thought, steps)  # a template needs no budget
        solved = agent.task.verify(self.input, steps, answer) if answer is not None else False
        return Result(
            self.input, answer, solved if agent.task.can_verify else None, tuple(steps), ended, self._ledger.spent,
            time.monotonic() - self._began, agent.seed, self._explorer.counts, self._explorer.tree, thought,
            agent.settings, self._figures(),
        )  # fmt: skip

    def _header(self) -> Event:
        agent = self._agent
        data = {
            "format": FORMAT,
            "input": self.input,
            "seed": agent.seed,
            "budget": asdict(agent.budget),
            "settings": agent.settings,
        }
        return Event("run", data)

    def _emit(self, event: Event) -> None:
        if event.type in ("completion", "scores", "end"):  # answers end rounds; what led to them is told first
            for model, ended in self._rounds:
                if rounds := ended():
                    self._tell(rounds_event(rounds, self._began, model))
        self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.write(event, time.monotonic() - self._began)
        if self._on_event is not None:
            self._on_event(event)


_VERIFIED_AT_MOST = 5
"""How many final states an interrupted search may check, as many as a finished beam of the default width."""
