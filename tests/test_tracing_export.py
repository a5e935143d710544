"""OpenTelemetry spans of a command are sent to a collector, and its faults cost one line."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cli_tools import ORACLE, call

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A collector of spans on this machine; ``status`` is what it answers, ``bodies`` what it has got."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.server.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Print nothing."""

    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_otel_sends_the_spans_of_a_command_by_otlp(collector: Any) -> None:
    """The collector has them all when the command has ended, under the name of the service."""
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    result = call("solve", *ORACLE, "--otel", "--json")
    counts = json.loads(result.stdout)
    spans = []
    for path, body in collector.bodies:
        assert path == "/v1/traces"
        for resource in trace_service.ExportTraceServiceRequest.FromString(body).resource_spans:
            assert "treeagent" in {pair.value.string_value for pair in resource.resource.attributes}
            spans += [span for scope in resource.scope_spans for span in scope.spans]
            assert b"4 9 10 13" not in body
    names = Counter(span.name.split()[0] for span in spans)
    assert names["invoke_agent"] == 1
    assert names["thought"] == counts["counts"]["thoughts"]
    assert names["text_completion"] == counts["usage"]["calls"]
    assert "spans" not in result.stderr


def test_a_collector_that_refuses_spans_costs_one_line(collector: Any) -> None:
    """How many were lost, where, and why; the answer and the exit code stay."""
    collector.status = 403
    result = call("solve", *ORACLE, "--otel", "--quiet")
    assert result.exit_code == 0
    assert "(solved)" in result.stdout
    [line] = result.stderr.splitlines()
    assert "spans could not be sent to http://127.0.0.1:" in line
    assert "403" in line


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "collector:4317"])
def test_an_address_where_nobody_takes_spans_is_refused_first(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the address and the variable, before the search has cost anything."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    result = call("solve", *ORACLE, "--otel-content")
    assert result.exit_code == 2
    assert not result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: --otel: ")
    assert address in line
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line


def test_searches_in_other_processes_send_no_spans() -> None:
    """So the two options exclude each other, in one line."""
    result = call("eval", *ORACLE[:4], "--workers", "ray", "--otel")
    assert result.exit_code == 2
    assert result.stderr == "Error: --otel: not with --workers, whose searches run in other processes\n"
