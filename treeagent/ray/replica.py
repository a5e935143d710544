"""One replica: an agent with its backends in a process of its own, which solves the problems that it is handed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, TreeagentError
from ..evaluation.outcomes import Outcome
from ..evaluation.run import ProblemSolver
from ..plugin_boundary import PluginBoundary
from ..runtime.agent import Agent
from ..taskfile.dataset import Data, DataRow

Build = Callable[[], tuple[Agent, Data]]
"""Makes the agent and the problems in the process of a replica; it is sent there."""


class Replica:
    """Solves problems with one agent. Journals are files, so a new replica continues where one before it died."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._loaded: tuple[Agent, Data] | None = None
        self._rows: dict[int, DataRow] = {}

    def load(self) -> str | None:
        """Load the backends; why that failed, None where it did not."""
        try:
            agent, data = self._build()
            for backend in agent.backends:
                with PluginBoundary("backend", backend.name):
                    backend.load()
        except TreeagentError as error:
            return str(error)
        self._loaded, self._rows = (agent, data), {row.number: row for row in data.rows}
        return None

    async def solve(self, number: int, journals: Path, seed: int) -> Outcome:
        """The outcome of a problem, from its journal in the folder where it has one."""
        if self._loaded is None:
            raise ConfigError("the replica is not loaded: call load first")
        agent, data = self._loaded
        return await ProblemSolver(agent.with_seed(seed), data, journals).solve(self._rows[number])
