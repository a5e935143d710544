"""The models that a server offers: pairs of a task and a search, written ``task/search``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import CapabilityError, ConfigError
from ..runtime.agent import Agent
from .http_errors import HttpError


@dataclass(frozen=True, slots=True)
class ServedModels:
    """Agents by the names of their models."""

    agents: Mapping[str, Agent]
    left_out: Mapping[str, str]
    """Pairs that cannot be served, with the reason; only where the user did not name both parts."""

    @property
    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted(self.agents)

    def agent(self, name: str) -> Agent:
        """The agent of a model. Raises HttpError (404), which names the nearest model."""
        if name in self.agents:
            return self.agents[name]
        [nearest] = difflib.get_close_matches(name[:200], self.names, n=1, cutoff=0.0)
        raise HttpError(
            404, f"no model is called {name[:200]!r}; the nearest is {nearest!r}. GET /v1/models lists all of them",
            param="model", code="model_not_found",
        )  # fmt: skip


def open_models(
    tasks: Sequence[str], searches: Sequence[str], make: Callable[[str, str], Agent], *, named: bool
) -> ServedModels:
    """An agent for every pair.

    ``make`` makes it from the two names. Unless the user ``named`` both parts, pairs that do not fit together are left
    out. Raises ConfigError or CapabilityError for a pair that was named, and where no pair is left.
    """
    agents: dict[str, Agent] = {}
    left_out: dict[str, str] = {}
    first: ConfigError | CapabilityError | None = None
    for task in tasks:
        for search in searches:
            try:
                agent = make(task, search)
            except (ConfigError, CapabilityError) as error:
                if named:
                    raise
                first = first or error
                left_out[f"{task}/{search}"] = str(error)
                continue
            name = f"{agent.task.name}/{search}"
            if name in agents:
                raise ConfigError(f"two tasks are called {agent.task.name!r}; a model's name stands for one of them")
            agents[name] = agent
    if not agents:
        raise first or ConfigError("there is no task or no search to serve")
    return ServedModels(agents, left_out)
