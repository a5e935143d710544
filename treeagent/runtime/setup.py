"""What an agent solves inputs with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..backend import Backend
from ..errors import ConfigError
from ..evaluator import Evaluator
from ..plugin_boundary import PluginBoundary
from ..reply import Usage
from ..search import MAIN, Search
from ..task import Task
from . import factory
from .budget import Budget, Ledger
from .early_figures import AUTOMATIC, Chances, PythonSeconds
from .events import Event
from .role_check import check_roles
from .run_set import RunSet
from .search_order import SearchLengths


class SearchTrace(Protocol):
    """What follows one search from outside."""

    def record(self, event: Event, seconds: float) -> None:
        """An event has happened, ``seconds`` after the search began."""

    def close(self) -> None:
        """The search has ended in any way."""


class SearchTracer(Protocol):
    """What follows all searches of an agent, such as :class:`treeagent.tracing.Tracing`."""

    def begin(self, setup: Setup) -> SearchTrace:
        """What follows one search; called where it runs, at its first event."""


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
    fsync: bool = False
    """Whether each line of a journal waits for the disk."""
    speculate: int | None = None
    """How many requests may run before the search asks for them; None: as the backend and the limits suggest."""
    others: Mapping[str, Backend] = field(default_factory=dict)
    """The backends of further models that the search chooses among, by name."""
    chances: Chances = field(default_factory=Chances)
    """What the agent's searches have learnt about such requests."""
    python: PythonSeconds = field(default_factory=PythonSeconds)
    """What such a request costs in this process, as far as they have measured it."""
    lengths: SearchLengths | None = None
    """What decides which of several searches goes first; None: the order of arrival."""
    tracer: SearchTracer | None = None
    """What follows its searches from outside; None where nothing does."""
    runs: RunSet = field(default_factory=RunSet)
    """Those of the agent that are going on."""

    @property
    def asked(self) -> tuple[Backend, ...]:
        """The generator's backend, the evaluator's, which may be the same, and those of further models."""
        return (self.backend, self.judging, *self.others.values())

    @property
    def backends(self) -> list[Backend]:
        """All backends, each once."""
        return list(dict.fromkeys(self.asked))

    def by_model(self, spent_at: Callable[[int], Usage]) -> dict[str, Usage]:
        """What each of several models has cost as a generator, by name; empty where there is one."""
        places = {MAIN: 0, **{name: place for place, name in enumerate(self.others, 2)}} if self.others else {}
        return {name: spent_at(place) for name, place in places.items()}

    def load(self) -> None:
        """Load the backends. Raises BackendError, and CapabilityError or ConfigError for what loading shows."""
        for used in self.backends:
            with PluginBoundary("backend", used.name):
                used.load()
        self._check_loaded()

    async def aload(self) -> None:
        """As :meth:`load`; it can be cancelled."""
        for used in self.backends:
            with PluginBoundary("backend", used.name):
                await used.aload()
        self._check_loaded()

    def find_models(self) -> None:
        """Load a backend where only loading shows what runs, and record it. Raises BackendError and ConfigError."""
        factory.check_devices(self.backends)
        for used in self.backends:
            if factory.shown_by_loading(used):
                used.load()
        factory.name_models(self.settings, self.backend, self.judging, self.others)

    def check_limits(self) -> None:
        """Raises ConfigError for a limit that could not be kept."""
        if not isinstance(self.budget, Budget):
            raise ConfigError(f"budget: expected a Budget, such as Budget(tokens=20_000), got {self.budget!r:.60}")
        Ledger(self.budget, *(used.price for used in self.asked))

    def check(self) -> None:
        """Check that the parts fit one another, as far as nothing is loaded. Raises ConfigError and CapabilityError."""
        inner = [("task", self.task.name, self.task)]
        with PluginBoundary("search", self.name_of("search"), "its check of the task", inner=inner):
            self.search.check(self.task)
        if self.evaluator is not None:
            with PluginBoundary("evaluator", self.name_of("evaluator"), "its check of the task", inner=inner):
                self.evaluator.check(self.task)
        self._check_backends(loaded=False)
        self.check_limits()

    def _check_loaded(self) -> None:
        """Record what only loading has shown, and check what it has shown to be missing."""
        factory.name_models(self.settings, self.backend, self.judging, self.others)
        self._check_backends(loaded=True)

    def _check_backends(self, *, loaded: bool) -> None:
        """Raises CapabilityError and ConfigError for what a backend lacks; not ``loaded``: for what is sure to lack."""
        if self.evaluator is not None:
            who = f"the evaluator {self.name_of('evaluator')!r}"
            factory.check_capabilities(self.judging, self.evaluator.needs, who, loaded=loaded)
        for generator in (self.backend, *self.others.values()):
            check_roles(self.task, generator, self.judging, judged=self.evaluator is not None, loaded=loaded)

    def early_requests(self) -> int:
        """How many requests may run before the search asks for them; to be called when the backends are loaded.

        Without a number of the user none where tokens have a price or a limit, or where an answer depends on more
        than its request: what is guessed in vain would be paid for, or would not be the answer of a later request.
        Else as many as every backend says that it can run at little cost to the others, none where one does not know;
        the runs that are going on share them. None either where a pass takes less than the Python of a request.
        """
        if self.speculate is not None:
            return self.speculate
        limited = self.budget.tokens is not None or self.budget.dollars is not None
        free = all(used.price is None and "seed" in used.capabilities for used in self.asked)
        if limited or not free:
            return 0
        rows = [AUTOMATIC]
        for used in self.asked:
            with PluginBoundary("backend", used.name):
                seconds = used.pass_seconds()
                pays = seconds is None or seconds >= self.python.each
                rows.append((used.early_rows() or 0) if pays else 0)
        return min(rows) // max(1, len(self.runs))

    def remaining(self, made: int) -> float | None:
        """How many requests a search probably makes after so many; None without an order, or without other searches."""
        return None if self.lengths is None or len(self.runs) < 2 else self.lengths.remaining(made)

    def name_of(self, kind: str) -> str:
        """What the settings call the search or the evaluator."""
        return str(self.settings[kind]["name"])
