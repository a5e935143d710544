"""OpenTelemetry spans of searches (extra ``otel``)."""

from __future__ import annotations

from .. import extras

extras.require("treeagent.tracing", "opentelemetry-sdk")

from .tracing import Tracing  # noqa: E402  the line about a missing extra comes before what needs it

__all__ = ["Tracing"]
