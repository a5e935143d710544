"""Passes the events of a search to what traces it, which can neither change the search nor end it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import PluginError
from ..plugin_boundary import PluginBoundary
from .journal import Event
from .setup import SearchTrace, Setup

LOG = logging.getLogger("treeagent")


class GuardedTrace:
    """The trace of one search; nothing where the agent has no tracer."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._tracer = setup, setup.tracer
        self._trace: SearchTrace | None = None

    def record(self, event: Event, seconds: float) -> None:
        """Pass an event on; it happened ``seconds`` after the search began."""
        if self._tracer is None:
            return
        with self._guarded(self._tracer):
            if self._trace is None:
                self._trace = self._tracer.begin(self._setup)
            self._trace.record(event, seconds)

    def close(self) -> None:
        """The search has ended in any way."""
        if self._trace is not None:  # also one that has raised: what it has begun must end
            with self._guarded(self._setup.tracer):
                self._trace.close()

    @contextmanager
    def _guarded(self, tracer: object) -> Iterator[None]:
        try:
            with PluginBoundary("tracer", type(tracer).__name__):
                yield
        except PluginError as error:
            if self._tracer is not None:  # once for a search
                LOG.warning("%s The search goes on without it.", error)
            self._tracer = None
