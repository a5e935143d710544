"""What an agent solves inputs with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backend import Backend
from ..evaluator import Evaluator
from ..plugin_boundary import PluginBoundary
from ..search import Search
from ..task import Task
from . import factory
from .budget import Budget
from .early_figures import AUTOMATIC, LEAST, LEAST_AUTOMATIC, Chances
from .role_check import check_roles
from .run_set import RunSet


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
    chances: Chances = field(default_factory=Chances)
    """What the agent's searches have learnt about such requests."""

    runs: RunSet = field(default_factory=RunSet)
    """Those of the agent that are going on."""

    def load(self) -> None:
        """Load the backends. Raises BackendError, and CapabilityError or ConfigError for what loading shows."""
        for used in dict.fromkeys((self.backend, self.judging)):
            with PluginBoundary("backend", used.name):
                used.load()
        self._check_loaded()

    async def aload(self) -> None:
        """As :meth:`load`; it can be cancelled."""
        for used in dict.fromkeys((self.backend, self.judging)):
            with PluginBoundary("backend", used.name):
                await used.aload()
        self._check_loaded()

    def _check_loaded(self) -> None:
        """Record what only loading has shown, and check what it has shown to be missing."""
        factory.name_models(self.settings, self.backend, self.judging)
        if self.evaluator is not None:
            who = f"the evaluator {self.settings['evaluator']['name']!r}"
            factory.check_capabilities(self.judging, self.evaluator.needs, who, loaded=True)
        check_roles(self.task, self.backend, self.judging, judged=self.evaluator is not None, loaded=True)

    def early_requests(self) -> int:
        """How many requests may run before the search asks for them; to be called when the backends are loaded.

        Without a number of the user none where tokens have a price or a limit, or where an answer depends on more
        than its request: what is guessed in vain would be paid for, or would not be the answer of a later request.
        Else as many as every backend says that it can run at little cost to the others, none where one does not know.
        """
        if self.speculate is not None:
            return self.speculate
        limited = self.budget.tokens is not None or self.budget.dollars is not None
        free = all(used.price is None and "seed" in used.capabilities for used in (self.backend, self.judging))
        if limited or not free:
            return 0
        rows = []
        for used in (self.backend, self.judging):
            with PluginBoundary("backend", used.name):
                rows.append(used.early_rows())
        return min(AUTOMATIC, *(number or 0 for number in rows))

    @property
    def least_chance(self) -> float:
        """That a request is asked for, where it is sent early."""
        return LEAST_AUTOMATIC if self.speculate is None else LEAST

    def name_of(self, kind: str) -> str:
        """What the settings call the search or the evaluator."""
        return str(self.settings[kind]["name"])
