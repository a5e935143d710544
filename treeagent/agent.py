"""The agent: a task, a search, an evaluator and a backend, ready to solve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import registry
from .backend import Backend, Usage
from .budget import Budget, BudgetExhausted, Ledger
from .errors import BackendError, CapabilityError, ConfigError, JournalError, TreeagentError
from .evaluator import Evaluator
from .explorer import Counts, Explorer, ranked
from .journal import FORMAT, Event, Journal, read
from .search import Search, build
from .task import Task
from .taskfile import Scalar
from .thought import Thought, Tree

Handler = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a search found, and what it cost."""

    input: str
    answer: str | None
    """None when there is no answer; ``path`` then holds the best attempt."""
    solved: bool | None
    """The task's own verdict on the answer; None when it cannot tell."""
    path: tuple[str, ...]
    """The steps that lead to the answer."""
    ended: str
    """``finished``, or why the search stopped early: ``calls``, ``tokens``, ``nodes``, ``dollars``, ``seconds``,
    ``interrupted`` or ``failed``."""
    usage: Usage
    seconds: float
    seed: int
    counts: Counts
    tree: Tree = field(repr=False)
    thought: Thought | None = field(default=None, repr=False)
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    """Task, search, evaluator, backend and their options."""

    def to_json(self) -> dict[str, Any]:
        """The object that ``treeagent solve --json`` prints."""
        return {
            "input": self.input,
            "answer": self.answer,
            "solved": self.solved,
            "path": list(self.path),
            "ended": self.ended,
            "usage": {**asdict(self.usage), "tokens": self.usage.tokens},
            "seconds": round(self.seconds, 3),
            "seed": self.seed,
            "counts": asdict(self.counts),
            "settings": self.settings,
        }


class Agent:
    """Solves inputs of one task. Safe to keep, to share and to use for many inputs, one after another or at once.

    Args:
        task: a registered name, a path to a YAML file, or a Task.
        search: a registered name (``bfs``), ``module:Class``, or a Search.
        backend: a registered name, ``module:Class``, or a Backend.
        model: what the backend should open; its own default when None.
        evaluator: a registered name, ``module:Class``, or an Evaluator.
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
        evaluator: str | Evaluator = "value",
        options: Mapping[str, Any] | None = None,
        variables: Mapping[str, Scalar] | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        legality: bool = True,
        allow_code: bool = False,
    ) -> None:
        own, evaluator_options, backend_options = _split(options or {})
        self.seed, self.budget, self.legality = seed, budget or Budget(), legality
        self.task = task if isinstance(task, Task) else Task.load(task, variables=variables, allow_code=allow_code)
        self.search: Search = _make("search", search, own)
        self.evaluator: Evaluator | None = (
            _make("evaluator", evaluator, evaluator_options) if self.search.evaluates else None
        )
        if self.evaluator is None and evaluator_options:
            raise ConfigError(f"the search {search!r} uses no evaluator, but evaluator options are given")
        self.backend: Backend = _open(backend, model, backend_options)
        self.settings: dict[str, Any] = {
            "task": str(self.task.path) if _is_path(task) else self.task.name,
            "task_version": self.task.spec.metadata.version,
            "variables": dict(self.task.variables),
            "search": {"name": _name(search), **_fields(self.search)},
            "evaluator": {"name": _name(evaluator), **_fields(self.evaluator)} if self.evaluator else None,
            "backend": self.backend.describe(),
            "legality": legality,
        }
        self.search.check(self.task)
        if self.evaluator is not None:
            self.evaluator.check(self.task)
            missing = self.evaluator.needs - self.backend.capabilities
            if missing:
                raise CapabilityError(
                    f"the evaluator {_name(evaluator)!r} needs {', '.join(sorted(missing))}, which the backend "
                    f"{self.backend.name!r} does not offer (it offers: {', '.join(sorted(self.backend.capabilities))})"
                )

    def solve(self, input: str, **how: Any) -> Result:
        """Solve one input and wait for it; takes what :meth:`asolve` takes. Raises as it does."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.asolve(input, **how))
        raise TreeagentError("an event loop is running here: use 'await agent.asolve(...)' instead of agent.solve(...)")

    async def asolve(
        self, input: str, *, journal: str | Path | None = None, on_event: Handler | None = None
    ) -> Result:
        """Solve one input.

        Raises InputError, JournalError, or BackendError; the latter's ``result`` is the best attempt so far.
        """
        return await self.run(input, journal=journal, on_event=on_event).result()

    async def stream(self, input: str, *, journal: str | Path | None = None) -> AsyncIterator[Event | Result]:
        """Events as they happen, then the Result. Leaving the loop early stops the search."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        run = self.run(input, journal=journal, on_event=queue.put_nowait)
        ending = asyncio.ensure_future(run.result())
        try:
            while not ending.done() or not queue.empty():
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    yield getting.result()
                else:
                    getting.cancel()
            yield await ending
        finally:
            ending.cancel()
            await asyncio.wait({ending})

    def run(
        self, input: str, *, journal: str | Path | None = None, on_event: Handler | None = None, resume: bool = False
    ) -> Run:
        """A run that has not begun; for apps that want to stop it themselves."""
        return Run(self, input, None if journal is None else Path(journal), on_event, resume)

    @classmethod
    def from_journal(cls, path: str | Path, **changes: Any) -> tuple[Agent, str]:
        """The agent and the input of a journalled run. Raises JournalError, or ConfigError when the task has changed."""
        events = read(Path(path))
        if not events:
            raise JournalError(f"{path}: there is nothing to resume; the journal holds no whole line")
        data = events[0].data
        settings = data["settings"]
        options = {key: value for key, value in settings["search"].items() if key != "name"}
        if settings["evaluator"] is not None:
            options |= {f"evaluator.{key}": value for key, value in settings["evaluator"].items() if key != "name"}
        backend = settings["backend"]
        options |= {f"backend.{key}": value for key, value in backend["options"].items()}
        given: dict[str, Any] = {
            "backend": backend["name"],
            "model": backend["model"],
            "evaluator": settings["evaluator"]["name"] if settings["evaluator"] else "value",
            "options": options,
            "variables": settings["variables"],
            "seed": data["seed"],
            "budget": Budget(**data["budget"]),
            "legality": settings["legality"],
        }
        agent = cls(settings["task"], settings["search"]["name"], **{**given, **changes})
        if agent.settings["task_version"] != settings["task_version"]:
            raise ConfigError(
                f"the journal was written with version {settings['task_version']} of task {agent.task.name!r}, "
                f"which is now at version {agent.settings['task_version']}"
            )
        return agent, str(data["input"])


class Run:
    """One search on one input."""

    def __init__(self, agent: Agent, input: str, journal: Path | None, on_event: Handler | None, resume: bool) -> None:
        self._agent, self._on_event = agent, on_event
        self.input = agent.task.read_input(input)
        self._ledger = Ledger(agent.budget, agent.backend.price)
        self._journal = None if journal is None else Journal(journal, resume=resume)
        self._began = time.monotonic()
        self._stopping: str | None = None
        self._searching: asyncio.Future[Thought | None] | None = None
        known = ({}, {}) if self._journal is None else (self._journal.replies, self._journal.scores)
        self._explorer = Explorer(
            agent.task, self.input, agent.backend, agent.evaluator, self._ledger, agent.seed, self._emit, known,
            legality=agent.legality,
        )  # fmt: skip

    def stop(self, why: str = "interrupted") -> None:
        """End the search at its next await; :meth:`result` returns the best attempt so far."""
        self._stopping = self._stopping or why
        if self._searching is not None:
            self._searching.cancel()

    async def result(self) -> Result:
        """Run the search. Raises BackendError (with the best attempt as ``result``) and JournalError."""
        agent, self._began = self._agent, time.monotonic()
        failure: BackendError | None = None
        try:
            self._emit(self._header())
            thought, ended = None, "finished"
            try:
                thought = await self._search()
            except BudgetExhausted as exhausted:
                ended = exhausted.limit
            except asyncio.CancelledError:
                if self._stopping is None:
                    raise
                ended = self._stopping
            except BackendError as error:
                failure, ended = error, "failed"
                self._emit(Event("failed", {"error": str(error)}))
            result = self._result(thought or self._best(), ended)
            self._emit(Event("end", result.to_json()))
        finally:
            if self._journal is not None:
                self._journal.close()
        if failure is not None:
            failure.result = result
            raise failure
        return result

    async def _search(self) -> Thought | None:
        loop = asyncio.get_running_loop()
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

    def _best(self) -> Thought | None:
        """The best thought so far: one that verifies, else one with an answer, else the best terminal, else the deepest."""
        tree = self._explorer.tree
        terminal = ranked(thought for thought in tree if thought.terminal)
        for thought in terminal[:_VERIFIED_AT_MOST]:
            if self._explorer.verified(thought):
                return thought
        answered = [thought for thought in terminal if thought.answer is not None]
        others = [thought for thought in tree if thought.parent is not None]
        deepest = max((thought.depth for thought in others), default=0)
        return next(iter([*answered, *terminal, *ranked(thought for thought in others if thought.depth == deepest)]), None)

    def _result(self, thought: Thought | None, ended: str) -> Result:
        agent = self._agent
        steps: list[str] = []
        answer = None
        if thought is not None:
            thought = self._explorer.tree[thought.id]
            steps, answer = self._explorer.steps(thought), thought.answer
        solved = agent.task.verify(self.input, steps, answer) if thought is not None and answer is not None else False
        if answer is None and thought is not None and thought.terminal and self._explorer.verified(thought):
            answer, solved = agent.task.spelled(self.input, thought, steps), True  # no budget left to have it written
        return Result(
            self.input, answer, solved if agent.task.can_verify else None, tuple(steps), ended, self._ledger.spent,
            time.monotonic() - self._began, agent.seed, self._explorer.counts, self._explorer.tree, thought,
            agent.settings,
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
        if self._journal is not None:
            self._journal.write(event, time.monotonic() - self._began)
        if self._on_event is not None:
            self._on_event(event)


_VERIFIED_AT_MOST = 5
"""How many final states an interrupted search may check, as many as a finished beam of the default width."""


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    parts: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    for key, value in options.items():
        prefix, _, rest = key.partition(".")
        if not rest:
            parts[0][key] = value
        elif prefix in ("evaluator", "backend"):
            parts[1 if prefix == "evaluator" else 2][rest] = value
        else:
            raise ConfigError(f"option {key!r}: the part before the dot must be 'evaluator' or 'backend'")
    return parts


def _make(kind: str, given: Any, options: dict[str, Any]) -> Any:
    if isinstance(given, str):
        return build(kind, given, registry.load(kind, given), options)
    if options:
        raise ConfigError(f"the {kind} is given as an object, so its options belong to the object: {', '.join(options)}")
    return given


def _open(given: str | Backend, model: str | None, options: dict[str, Any]) -> Backend:
    if isinstance(given, Backend):
        if model is not None or options:
            raise ConfigError("the backend is given as an object, so model and backend options belong to the object")
        return given
    opened: Backend = registry.load("backend", given).open(model, options)
    return opened


def _name(given: Any) -> str:
    return given if isinstance(given, str) else type(given).__name__


def _fields(given: Any) -> dict[str, Any]:
    return {name: getattr(given, name) for name in getattr(type(given), "__dataclass_fields__", {})}


def _is_path(task: str | Path | Task) -> bool:
    return isinstance(task, Path) or (isinstance(task, str) and ("/" in task or task.endswith((".yaml", ".yml"))))
