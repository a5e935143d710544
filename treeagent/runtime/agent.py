"""The agent: a task, a search, an evaluator and a backend."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backend import Backend
from ..errors import ConfigError, TreeagentError
from ..evaluator import Evaluator
from ..search import Search
from ..task import Scalar, Task
from . import factory
from .budget import Budget
from .journal import Event, recorded_run
from .judging_backend import JudgingBackend
from .other_models import OtherModels
from .release import close_all
from .result import Result
from .run import Handler, Run
from .sampling_options import with_changes
from .search_order import ARRIVAL, SearchLengths
from .setup import SearchTracer, Setup


class Agent:
    """Solves inputs of one task. One agent serves many inputs, one after another or at the same time.

    ``async with Agent(...) as agent`` releases at its end what the agent holds (:meth:`aclose`).

    Args:
        task: a registered name, a path to a YAML file, ``module:Class`` (with ``allow_code``), or a Task.
        search: a registered name (``bfs``), ``module:Class``, or a Search.
        backend: a registered name, ``module:Class``, or a Backend. None: ``seed``, and ``transformers`` for a model
            that ``seed`` cannot run, which a warning of the logger ``treeagent`` says and :attr:`settings` record.
        model: a model of the backend; its own default when None.
        evaluator_model: another model for the evaluator's requests, on a backend of the same kind (``seed`` shares its
            draft model between the two; without a named backend each model has the one that can run it), or a Backend
            for them; None: the generator's.
        evaluator_backend: another backend for the evaluator's requests, with ``evaluator_model`` as its model: a
            registered name, ``module:Class``, or a Backend.
        model_of: further models by name, for a search that chooses among several (``ab-mcts``): each on a backend of
            the generator's kind, or on that of ``backend_of``.
        backend_of: by the names of further models their backends: a registered name, ``module:Class``, or a Backend.
        evaluator: a registered name, ``module:Class``, or an Evaluator; the task's own choice when None.
        options: options by name; the prefixes ``evaluator.``, ``backend.``, ``evaluator_backend.`` and
            ``backend_of.NAME.`` reach those, and ``sampling.ROLE.FIELD`` changes how a role's completions are drawn.
        variables: values of the task's variables; not for a Task, which has its own.
        seed: every random choice derives from it.
        budget: upper limits of each run; None: no limits.
        legality: False keeps illegal thoughts, to measure the effect of the filter.
        allow_code: permit code outside the registry that the task or its file names.
        speculate: how many requests may run before the search asks for them, because it probably will; the result is
            the same. 0: none; ``auto``: some, on a local backend whose passes are long, without limits of tokens.
        order: of requests that ``seed`` cannot run at once: ``arrival``, or ``shortest``, the search to its end first.
        fsync: wait until each line of a journal is on the disk, so that a power cut loses none.

    Raises ConfigError, UnknownNameError or CapabilityError at once; asks no server anything and loads no model, which
    :meth:`load` or the first run does. A capability that a server or a model turns out to lack raises CapabilityError
    then.
    """

    def __init__(
        self,
        task: str | Path | Task,
        search: str | Search = "bfs",
        *,
        backend: str | Backend | None = None,
        model: str | None = None,
        evaluator: str | Evaluator | None = None,
        evaluator_model: str | Backend | None = None,
        evaluator_backend: str | Backend | None = None,
        model_of: Mapping[str, str] | None = None,
        backend_of: Mapping[str, str | Backend] | None = None,
        options: Mapping[str, Any] | None = None,
        variables: Mapping[str, Scalar] | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        legality: bool = True,
        allow_code: bool = False,
        speculate: int | str = 0,
        order: str = ARRIVAL,
        fsync: bool = False,
    ) -> None:
        options = dict(options or {})
        early = factory.early_requests(options.pop("speculate", speculate))
        own, evaluator_options, backend_options, sampling_options, *more_options = factory.split_options(options)
        judging_options, other_options = more_options
        self.seed, self.budget, self.legality = seed, budget or Budget(), legality
        self.task: Task = (
            task if isinstance(task, Task) else Task.load(task, variables=variables, allow_code=allow_code)
        )
        self.task, changes = with_changes(self.task, sampling_options)
        self.search: Search = factory.open_plugin("search", search, own)
        evaluator = self.task.evaluator if evaluator is None else evaluator
        self.evaluator: Evaluator | None = (
            factory.open_plugin("evaluator", evaluator, evaluator_options) if self.search.evaluates else None
        )
        if self.evaluator is None and evaluator_options:
            raise ConfigError(f"the search {search!r} uses no evaluator, but evaluator options are given")
        self.backend: Backend = factory.open_backend(backend, model, backend_options)
        judging = JudgingBackend(evaluator_backend, evaluator_model, judging_options)
        self.judging: Backend = judging.open(self.backend, factory.reference(search), evaluates=self.search.evaluates)
        """The evaluator's backend."""
        others = OtherModels(backend_of or {}, model_of or {}, other_options)
        self.others = others.open(self.backend, self.search, factory.reference(search))
        """The backends of further models that the search chooses among, by name."""
        given = (backend, evaluator_model, evaluator_backend, *(backend_of or {}).values())
        self._opened = [used for used in dict.fromkeys((self.backend, self.judging, *self.others.values()))
                        if not any(used is each for each in given)]  # fmt: skip
        self.settings: dict[str, Any] = {
            **factory.task_settings(task, self.task),
            "search": {"name": factory.reference(search), **factory.option_values(self.search)},
            "evaluator": self.evaluator
            and {"name": factory.reference(evaluator), **factory.option_values(self.evaluator)},
            "backend": factory.description(self.backend),
            "evaluator_model": factory.description(self.judging) if judging.is_apart else evaluator_model,
            "legality": legality,
            **factory.further_models(self.others),
            **({"sampling": changes} if changes else {}),
            **({} if early == 0 else {"speculate": "auto" if early is None else early}),
        }
        self._row: Mapping[str, Any] | None = None
        """The row of a journalled run."""
        self._setup = Setup(
            self.task, self.search, self.evaluator, self.backend, self.judging, seed, self.budget, legality,
            self.settings, fsync, early, self.others, lengths=SearchLengths.of(order),
        )  # fmt: skip
        self._setup.check()

    def with_seed(self, seed: int) -> Agent:
        """An agent that differs in its seed alone; the two share their backends."""
        copied = copy.copy(self)
        copied.seed, copied._setup = seed, replace(self._setup, seed=seed)
        return copied

    def with_budget(self, budget: Budget) -> Agent:
        """An agent that differs in the limits of its runs alone. Raises ConfigError for a limit that cannot be kept."""
        copied = copy.copy(self)
        copied.budget, copied._setup = budget, replace(self._setup, budget=budget)
        copied._setup.check_limits()
        return copied

    def with_tracing(self, tracer: SearchTracer | None) -> Agent:
        """An agent that differs in what follows its searches (:class:`treeagent.tracing.Tracing`) alone.

        A tracer changes no search; one that raises an exception is left out of the rest of its search, with a warning.
        """
        copied = copy.copy(self)
        copied._setup = replace(self._setup, tracer=tracer)
        return copied

    @property
    def backends(self) -> list[Backend]:
        """All backends that its runs ask, each once."""
        return self._setup.backends

    def find_models(self) -> None:
        """Load a backend where only loading shows what runs, to name it in :attr:`settings`. Raises as :meth:`load`."""
        self._setup.find_models()

    def load(self) -> None:
        """Load the backends now, so that the first run does not wait for it.

        Raises BackendError, CapabilityError for what only loading shows, and ConfigError for a device that is missing.
        """
        self._setup.load()

    async def aload(self) -> None:
        """As :meth:`load`, in worker threads; the event loop goes on."""
        await self._setup.aload()

    async def aclose(self) -> None:
        """End this event loop's runs with their best attempts, then release the backends that the agent has opened.

        A backend that was given as an object is its owner's to close. Agents of :meth:`with_seed` and
        :meth:`with_budget` share runs and backends with this one. The agent may be used again; it loads again then.
        """
        await self._setup.runs.aclose()
        await close_all(self._opened)

    async def __aenter__(self) -> Agent:
        """The agent itself; nothing is loaded."""
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Close it (:meth:`aclose`)."""
        await self.aclose()

    def solve(self, input: str, **how: Any) -> Result:
        """Solve one input and wait for it; takes what :meth:`asolve` takes. Raises as it does."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.asolve(input, **how))
        raise TreeagentError("an event loop is running here: use 'await agent.asolve(...)' instead of agent.solve(...)")

    async def asolve(
        self,
        input: str,
        *,
        journal: str | Path | None = None,
        on_event: Handler | None = None,
        row: Mapping[str, Any] | None = None,
        seed: int | None = None,
        budget: Budget | None = None,
    ) -> Result:
        """Solve one input; for the arguments see :meth:`run`.

        Raises InputError, or any other TreeagentError, whose ``result`` is the best attempt so far.
        """
        return await self.run(input, journal=journal, on_event=on_event, row=row, seed=seed, budget=budget).result()

    async def stream(
        self,
        input: str,
        *,
        journal: str | Path | None = None,
        row: Mapping[str, Any] | None = None,
        seed: int | None = None,
        budget: Budget | None = None,
    ) -> AsyncIterator[Event | Result]:
        """Yields events as they happen, then the Result. Closing the generator early stops the search."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        run = self.run(input, journal=journal, on_event=queue.put_nowait, row=row, seed=seed, budget=budget)
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
        self,
        input: str,
        *,
        journal: str | Path | None = None,
        on_event: Handler | None = None,
        resume: bool = False,
        row: Mapping[str, Any] | None = None,
        seed: int | None = None,
        budget: Budget | None = None,
    ) -> Run:
        """A run that has not begun, for applications that call :meth:`Run.stop`.

        Args:
            input: the input.
            journal: file that the events are written to.
            on_event: is called with each event, in the event loop's thread.
            resume: continue the run of the journal.
            row: the fields of the input's data row that the task names (``data.fields``).
            seed: of this run; the agent's when None.
            budget: the limits of this run, in place of all of the agent's; the agent's when None.

        Raises InputError, JournalError, or ConfigError for a limit that cannot be kept.
        """
        path, row = None if journal is None else Path(journal), self._row if row is None else row
        agent = self if budget is None else self.with_budget(budget)
        setup = agent._setup if seed is None else replace(agent._setup, seed=seed)
        return Run(setup, input, path, on_event, resume=resume, row=row)

    @classmethod
    def from_journal(
        cls, path: str | Path, *, trusted: Mapping[str, Any] | None = None, allow_code: bool = False, **changes: Any
    ) -> tuple[Agent, str]:
        """Agent and input of a journalled run.

        Args:
            path: the journal. It may come from elsewhere, so neither code nor an address is taken from it as it is.
            trusted: values of ``backend.NAME`` for options that say where requests go or which secret goes along
                (:meth:`treeagent.Backend.guarded_options`); they replace those of the journal.
            allow_code: permit parts outside the registry (``module:Class``), and those that the task names.
            changes: other arguments of the agent.

        Raises JournalError for a damaged journal, and ConfigError for what is not permitted or when the task has
        changed.
        """
        run = recorded_run(Path(path))
        arguments = factory.agent_arguments(
            Path(path), run, trusted or {}, allow_code=allow_code, opens_backend="backend" not in changes
        )
        version = run.settings.task_version
        agent = cls(run.settings.task, run.settings.search.name, allow_code=allow_code, **{**arguments, **changes})
        factory.keep_reasons(agent.settings, run.settings)
        opened = (arguments["evaluator_model"], *arguments["backend_of"].values())  # nobody else could close them
        agent._opened += [used for used in agent.backends if any(used is each for each in opened)]
        if agent.settings["task_version"] != version:
            raise ConfigError(
                f"the journal was written with version {version} of task {agent.task.name!r}, "
                f"which is now at version {agent.settings['task_version']}"
            )
        agent._row = run.row or None
        return agent, run.input
