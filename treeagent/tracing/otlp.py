"""Sends spans by OTLP over HTTP to where OpenTelemetry's own environment variables say."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_SERVICE_NAME,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ..errors import ConfigError
from .tracing import Tracing

_DEFAULT = "http://localhost:4318"
_CONNECT = 5.0
"""Seconds until an address counts as one where nobody listens."""
_QUEUE = 1 << 16
"""Spans that may wait to be sent: those of a search's thoughts end all at once."""


@contextmanager
def otlp_tracing(say: Callable[[str], None], *, content: bool) -> Iterator[Tracing]:
    """Tracing whose spans are sent, the last when the context ends; ``say`` is called where some could not be.

    Raises ConfigError where nobody listens.
    """
    address = endpoint()
    _check(address)
    exporter, warnings = CountedExporter(OTLPSpanExporter(address)), LastWarning()
    queue = None if os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE) else _QUEUE
    processor = CountedProcessor(exporter, queue)
    name = {} if os.environ.get(OTEL_SERVICE_NAME) else {SERVICE_NAME: "treeagent"}
    provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    log = logging.getLogger("opentelemetry")
    log.addHandler(warnings)
    try:
        yield Tracing(provider, content=content)
    finally:
        exporter.hurry()
        provider.shutdown()
        log.removeHandler(warnings)
        if lost := processor.ended - exporter.sent:
            reason = f": {warnings.text}" if warnings.text else ""
            say(f"{lost:,} of {processor.ended:,} spans could not be sent to {address}{reason}")


def endpoint() -> str:
    """The address that spans go to. Raises ConfigError for one that is no address of the web."""
    base = os.environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or _DEFAULT
    address = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or f"{base.rstrip('/')}/v1/traces"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--otel: {address!r} is no address; set {OTEL_EXPORTER_OTLP_ENDPOINT} to one such as {_DEFAULT} (OTLP "
            "over HTTP)"
        )
    return address


def _check(address: str) -> None:
    """Raise ConfigError where nobody listens, before a search has cost anything."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return  # the proxy connects
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((host, port), _CONNECT).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--otel: nobody takes spans at {address}: {reason}. Start a collector there, or set "
            f"{OTEL_EXPORTER_OTLP_ENDPOINT}"
        ) from error


class CountedExporter(SpanExporter):
    """Counts the spans that were sent."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.sent = 0
        self._hurries = self._failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, which may take as long as the exporter's time-out."""
        if self._hurries and self._failed:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        self._failed = result is not SpanExportResult.SUCCESS
        self.sent += 0 if self._failed else len(spans)
        return result

    def hurry(self) -> None:
        """Send what is left, but nothing more after a failure."""
        self._hurries = True

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


class CountedProcessor(BatchSpanProcessor):
    """Counts the spans that were to be sent."""

    def __init__(self, exporter: SpanExporter, queue: int | None) -> None:
        super().__init__(exporter, max_queue_size=queue)
        self.ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span to send."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.ended += 1
        super().on_end(span)


class LastWarning(logging.Handler):
    """Keeps the library's last reason, which would go to standard error else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, a transient error's reason alone; that retries have ended says no reason."""
        if str(record.msg).startswith("Transient error") and isinstance(record.args, tuple):
            self.text = " ".join(str(record.args[0]).split())[:200]
        elif not self.text or "max retries" not in str(record.msg):
            self.text = " ".join(record.getMessage().split())[:200]
