"""Spans for the searches of an agent."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from .. import __version__
from ..runtime.setup import Setup
from .conventions import SCHEMA_URL
from .search_spans import SearchSpans


class Tracing:
    """Makes spans of searches: ``Agent(...).with_tracing(Tracing())``.

    The span of a search is below the span that is current where the search runs.
    """

    def __init__(self, provider: TracerProvider | None = None, *, content: bool = False) -> None:
        """``provider`` defaults to the global one. With ``content`` spans have inputs, prompts, replies and steps."""
        self._tracer = trace.get_tracer("treeagent", __version__, provider, SCHEMA_URL)
        self._content = content

    def begin(self, setup: Setup) -> SearchSpans:
        """The spans of one search."""
        return SearchSpans(self._tracer, setup, content=self._content)
