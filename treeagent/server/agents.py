"""Makes the agents of a server: one for each task and search, all on the same backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..backend import Backend
from ..runtime import factory
from ..runtime.agent import Agent
from ..runtime.judging_backend import JudgingBackend
from ..search import Search
from ..task import Task


class AgentMaker:
    """Opens the backends once, and each task once."""

    def __init__(
        self,
        *,
        backend: str | Backend | None,
        model: str | None,
        evaluator: str | None,
        evaluator_model: str | None,
        evaluator_backend: str | None,
        options: Mapping[str, Any],
        load: Callable[[str], Task],
        more: Mapping[str, Any],
    ) -> None:
        """Arguments as those of :class:`Agent`.

        ``load`` opens a task, ``more`` are further arguments of all agents. Raises ConfigError.
        """
        _, _, backend_options, _, judging_options, _ = factory.split_options(options)
        self._backend = factory.open_backend(backend, model, backend_options)
        judging = JudgingBackend(evaluator_backend, evaluator_model, judging_options)
        self._judging = judging.open(self._backend, "any", evaluates=True)
        self._options = {
            name: value
            for name, value in options.items()
            if name.partition(".")[0] not in ("backend", "evaluator_backend") or "." not in name
        }
        self._evaluator, self._load, self._more = evaluator, load, dict(more)
        self._tasks: dict[str, Task] = {}

    def agent(self, task: str, search: str) -> Agent:
        """The agent of a pair. Raises ConfigError or CapabilityError."""
        if task not in self._tasks:
            self._tasks[task] = self._load(task)
        own, *_ = factory.split_options(self._options)
        own.pop("speculate", None)
        opened: Search = factory.open_plugin("search", search, own)
        apart = self._judging if opened.evaluates and self._judging is not self._backend else None
        return Agent(
            self._tasks[task], search, backend=self._backend, evaluator=self._evaluator, evaluator_model=apart,
            options=self._options, **self._more,
        )  # fmt: skip
