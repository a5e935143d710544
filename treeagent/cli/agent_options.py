"""The agent that the command line describes; ``solve``, ``eval`` and each replica of ``eval`` make the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import arguments
from .option_groups import BackendOptions, LimitOptions, ModelsOptions, RunOptions, SearchOptions

if TYPE_CHECKING:
    from ..runtime.agent import Agent
    from ..task import Task


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The option groups that an agent is made of."""

    search: SearchOptions
    backend: BackendOptions
    models: ModelsOptions
    run: RunOptions
    limits: LimitOptions
    order: str = "arrival"
    fsync: bool = False

    def check(self) -> None:
        """Make local modules importable that are named. Raises ConfigError for words that cannot be read."""
        self.limits.budget()
        self.run.option_values()
        self.run.task_variables()
        names = (self.search.search, self.backend.backend, self.search.evaluator, self.backend.evaluator_backend)
        others = self.models.by_name()["backend_of"].values()
        arguments.reach_local_code(*names, *others, allow_code=self.run.allow_code)

    def load_task(self) -> Task:
        """The task with its variables. Raises ConfigError."""
        return self.run.load_task(self.search.task)

    def make_agent(self, task: Task | None = None) -> Agent:
        """The agent, for a task that is loaded already; None loads it, and journals then have its name as given.

        Raises ConfigError and MissingExtraError.
        """
        from ..runtime.agent import Agent

        return Agent(
            task or self.search.task, self.search.search, backend=self.backend.backend, model=self.backend.model,
            evaluator=self.search.evaluator, evaluator_model=self.backend.evaluator_model,
            evaluator_backend=self.backend.evaluator_backend, **self.models.by_name(),
            options=self.run.option_values(), variables=None if task else self.run.task_variables(), seed=self.run.seed,
            budget=self.limits.budget(), legality=not self.run.no_legality, allow_code=self.run.allow_code,
            speculate=self.run.speculate, order=self.order, fsync=self.fsync,
        )  # fmt: skip
