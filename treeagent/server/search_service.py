"""Runs the searches that clients request: each in its turn, counted, and kept for the pages."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..backend import Backend
from ..errors import TreeagentError
from ..plugin_boundary import PluginBoundary
from ..runtime.budget import Budget
from ..runtime.events import Event
from ..runtime.release import close_all
from ..runtime.result import Result
from ..runtime.run import Run
from ..text import argument
from .http_errors import HttpError, from_error
from .protocol import SearchFields
from .recent_runs import RecentRun, RecentRuns
from .search_queue import SearchQueue
from .served_models import ServedModels
from .server_metrics import ServerMetrics


@dataclass(frozen=True, slots=True)
class OrderedSearch:
    """A search that a client has requested."""

    id: str
    fields: SearchFields
    input: str
    on_event: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class PreparedSearch:
    """A search that has its input and has not begun."""

    model: str
    run: Run
    recent: RecentRun | None


class SearchService:
    """The searches of a server."""

    def __init__(self, models: ServedModels, budget: Budget, queue: SearchQueue, kept: int) -> None:
        """``budget`` has the highest limits of a request; ``kept`` searches are kept for the pages."""
        self.models, self.budget, self.queue = models, budget, queue
        self.recent, self.metrics = RecentRuns(kept), ServerMetrics()
        self._running: set[Run] = set()

    def check(self, order: OrderedSearch) -> None:
        """Raise HttpError (404) for an unknown model, before a place in the queue is taken."""
        self.models.agent(order.fields.model)

    def prepare(self, order: OrderedSearch) -> PreparedSearch:
        """The search of a request. Raises HttpError for an unknown model, a limit or an input that is wrong."""
        fields = order.fields
        agent = self.models.agent(fields.model)
        recent: RecentRun | None = None

        def handle(event: Event) -> None:
            if recent is not None:
                recent.add(event)
            order.on_event(event)

        try:
            agent = agent.with_seed(agent.seed if fields.seed is None else fields.seed)
            agent = agent.with_budget(fields.budget.capped(self.budget))
            run = agent.run(argument(order.input), on_event=handle, row=fields.row)
        except TreeagentError as error:
            raise from_error(error) from error
        recent = self.recent.begin(order.id, fields.model, run.input)
        return PreparedSearch(fields.model, run, recent)

    async def solve(self, search: PreparedSearch, turn: Awaitable[None]) -> Result:
        """Run a search when it has its turn. Raises HttpError."""
        ended = "left"
        try:
            await turn
            result = await self._run(search)
            ended = result.ended
        except HttpError:
            ended = "failed"
            raise
        finally:
            if search.recent is not None:
                search.recent.end(ended)
        return result

    async def _run(self, search: PreparedSearch) -> Result:
        began, run = time.monotonic(), search.run
        self._running.add(run)
        try:
            result = await run.result()
        except TreeagentError as error:
            if error.result is not None:
                self.metrics.searched(search.model, "failed", time.monotonic() - began, error.result)
            raise from_error(error) from error
        finally:
            self._running.discard(run)
        self.metrics.searched(search.model, result.ended, time.monotonic() - began, result)
        return result

    async def load(self) -> None:
        """Load all backends, so that the first request does not wait for it. Raises BackendError."""
        for backend in self._backends():
            with PluginBoundary("backend", backend.name):
                await backend.aload()

    async def aclose(self) -> None:
        """Release what the backends hold."""
        await close_all(self._backends())

    def _backends(self) -> list[Backend]:
        agents = self.models.agents.values()
        return list(dict.fromkeys(backend for agent in agents for backend in agent.backends))

    def close(self) -> None:
        """End all searches with their best attempts, and refuse what waits."""
        self.queue.close()
        for run in list(self._running):
            run.stop()

    def find(self, id: str) -> RecentRun:
        """A search that is kept. Raises HttpError (404)."""
        run = self.recent.get(id)
        if run is None:
            raise HttpError(404, f"no search {id[:80]!r} is kept", code="not_found")
        return run
