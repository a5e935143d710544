"""OpenTelemetry spans: their tree is the search's, they have no texts unless asked for, and they change nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acting_tools import task as acting_task

from treeagent import Agent, Event, Request
from treeagent.backends.scripted import ScriptedBackend
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.reply import Reply, Round
from treeagent.testing.synthetic import TreeBackend, essence, random_tree, task

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

from opentelemetry import trace  # noqa: E402

from treeagent.tracing import Tracing, conventions  # noqa: E402

TREE = random_tree(3, 4, 3)


class Kept:
    """Tracing whose spans are kept in memory."""

    def __init__(self, *, content: bool = False, processor: Any = None) -> None:
        self._exporter = memory.InMemorySpanExporter()
        self.provider = sdk.TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(processor or export.SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, content=content)

    @property
    def spans(self) -> list[Any]:
        """Those that have ended."""
        return list(self._exporter.get_finished_spans())

    def named(self, *starts: str) -> list[Any]:
        """The spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(starts)]

    @property
    def text(self) -> str:
        """All that the spans have."""
        return "\n".join(json.dumps(json.loads(span.to_json()), ensure_ascii=False) for span in self.spans)


class InRounds(TreeBackend):
    """Reports two rounds for each request."""

    def rounds(self) -> Callable[[], list[Round]]:
        reported = [0]

        def ended() -> list[Round]:
            new = 2 * len(self.requests) - reported[0]
            reported[0] += new
            return [Round(time.monotonic(), 0.0, 1, 5, 3, 2, 3) for _ in range(new)]

        return ended


@pytest.mark.parametrize("search", ["bfs", "mcts", "cot-sc"])
def test_the_tree_of_the_spans_is_the_tree_of_the_search(search: str) -> None:
    """Thoughts stand below their parents, requests below their thoughts, rounds below the search, within its time."""
    kept, events = Kept(), []
    agent = Agent(task(), search, backend=InRounds(TREE, order=1)).with_tracing(kept.tracing)
    result = agent.solve("r", on_event=events.append)
    [root] = kept.named("invoke_agent")
    assert root.attributes["gen_ai.agent.name"] == f"synthetic/{search}"
    by_id = {span.context.span_id: span for span in kept.spans}
    thoughts = {span.attributes["treeagent.thought.id"]: span for span in kept.named("thought")}
    assert len(thoughts) == len(result.tree) - 1 > 3
    thoughts[0] = root
    for thought in list(result.tree)[1:]:
        assert thoughts[thought.id].parent.span_id == thoughts[thought.parent or 0].context.span_id
    for kind, operation in (("completion", "text_completion"), ("scores", "score")):
        places = Counter(thoughts[event.data["thought"] or 0].context.span_id for event in events if event.type == kind)
        assert Counter(span.parent.span_id for span in kept.named(operation)) == places
    rounds = kept.named("round")
    assert len(rounds) == 2 * result.usage.calls > 0
    assert {span.parent.span_id for span in rounds} == {root.context.span_id}
    assert len({span.context.trace_id for span in kept.spans}) == 1
    for span in kept.spans:
        above = span if span is root else by_id[span.parent.span_id]
        assert above.start_time <= span.start_time <= span.end_time <= above.end_time
    judged = [event.name for span in kept.spans for event in span.events if event.name == "gen_ai.evaluation.result"]
    assert len(judged) == result.counts.judged


def test_a_search_stands_below_the_span_that_is_current_where_it_runs() -> None:
    """So an application's own span has the search in it."""
    kept = Kept()
    with trace.get_tracer("app", tracer_provider=kept.provider).start_as_current_span("request") as span:
        Agent(task(), backend=TreeBackend(TREE)).with_tracing(kept.tracing).solve("r")
    [root] = kept.named("invoke_agent")
    assert root.parent.span_id == span.get_span_context().span_id


@pytest.mark.parametrize("search", ["bfs", "mcts", "best-of-n"])
def test_tracing_changes_neither_tree_nor_tokens(search: str) -> None:
    """Result, tree and requests are those without it."""
    results = []
    for tracing in (None, Kept(content=True).tracing):
        backend = TreeBackend(TREE, order=2)
        agent = Agent(task(), search, backend=backend, seed=3).with_tracing(tracing)
        results.append((essence(agent.solve("r")), sorted(str(request) for request in backend.requests)))
    assert results[0] == results[1]


def test_the_spans_of_requests_say_what_the_requests_cost() -> None:
    """The tokens of all requests together are the result's and the search's own."""
    kept = Kept()
    result = Agent(task(), backend=TreeBackend(TREE)).with_tracing(kept.tracing).solve("r")
    [root] = kept.named("invoke_agent")
    for name, total in (("input", result.usage.prompt_tokens), ("output", result.usage.completion_tokens)):
        spans = kept.named("text_completion")
        assert sum(span.attributes[f"gen_ai.usage.{name}_tokens"] for span in spans) == total
        assert root.attributes[f"gen_ai.usage.{name}_tokens"] == total
    span = next(span for span in kept.spans if span.attributes.get("treeagent.role") == "propose")
    assert span.attributes["gen_ai.request.temperature"] == 0.7
    assert span.attributes["gen_ai.request.max_tokens"] == 512
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)


class Failing(ScriptedBackend):
    """Refuses judgements with an error that quotes the prompt, and fails at the third step."""

    async def generate(self, request: Request) -> Reply:
        if request.key.role == "value" and "secret" in request.prompt:
            raise RequestRefusedError(f"refused: {request.prompt}")
        if request.key.place.count(".") == 1:
            raise BackendError(f"the server could not read {request.prompt}")
        return await super().generate(request)


def secretive(kind: type[ScriptedBackend], steps: str) -> Agent:
    """An agent of the task ``acting`` whose steps are these."""

    def answer(request: Request) -> str:
        if request.key.role == "value":
            return "sure"
        return steps if request.prompt == "next of start\n" else "end it"

    return Agent(acting_task(), backend=kind(answer), seed=1)


@pytest.mark.parametrize("kind", [ScriptedBackend, Failing])
@pytest.mark.parametrize("content", [False, True])
def test_spans_have_no_text_unless_it_is_asked_for(*, kind: type[ScriptedBackend], content: bool) -> None:
    """No piece of an input, a prompt, a reply, a step, an observation or an error is in them; with content all are."""
    kept, events = Kept(content=content), []
    agent = secretive(kind, "do secret one\ndo secret refuse\ndo secret crash").with_tracing(kept.tracing)
    try:
        agent.solve("start", on_event=events.append)
    except BackendError:
        assert kind is Failing
    texts: set[str] = {"secret"}
    for event in events:
        for name in ("prompt", "text", "observation", "error"):
            value = event.data.get(name)
            texts |= {value} if isinstance(value, str) and len(value) > 4 else set()
        texts |= {each["text"] for each in event.data.get("completions", ()) if len(each["text"]) > 4}
    assert len(texts) > 6
    present = {text for text in texts if json.dumps(text, ensure_ascii=False)[1:-1] in kept.text.replace("\\\\", "\\")}
    assert present == (texts if content else set())


def test_observations_are_executions_of_a_tool() -> None:
    """Each stands below the thought at which its step was taken; a failed one has the status of an error."""
    kept = Kept()
    result = secretive(ScriptedBackend, "do one\ndo refuse").with_tracing(kept.tracing).solve("start")
    spans = kept.named("execute_tool")
    [root] = kept.named("invoke_agent")
    assert {span.attributes["gen_ai.tool.name"] for span in spans} == {"acting"}
    first = [span for span in spans if span.parent.span_id == root.context.span_id]
    assert sorted(span.attributes.get("error.type", "") for span in first) == ["", "tool_error"]
    assert result.counts.failed == 1


def test_every_genai_name_is_one_of_the_pinned_conventions() -> None:
    """Names that the conventions do not have are under ``treeagent.``."""
    registry = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    known = {value for name, value in vars(registry).items() if name.startswith("GEN_AI_")}
    used = {value for value in vars(conventions).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert used - {conventions.EVALUATION} <= known  # the name of an event
    kept = Kept(content=True)
    Agent(task(), backend=InRounds(TREE)).with_tracing(kept.tracing).solve("r")
    assert kept.spans[0].instrumentation_scope.schema_url == f"https://opentelemetry.io/schemas/{conventions.VERSION}"
    names = {name for span in kept.spans for name in span.attributes}
    assert {name for name in names if not name.startswith("treeagent.")} <= used | {"error.type"}


def test_what_a_journal_answers_is_marked_as_recorded(tmp_path: Path) -> None:
    """A resumed search has the spans of the whole tree, and its old requests took no time."""
    path = tmp_path / "run.jsonl"
    agent, kept = Agent(task(), backend=TreeBackend(TREE)), Kept()
    first = agent.solve("r", journal=path)
    asyncio.run(agent.with_tracing(kept.tracing).run("r", journal=path, resume=True).result())
    requests = kept.named("text_completion")
    assert len(requests) == first.usage.calls
    assert all(span.attributes["treeagent.recorded"] and span.start_time == span.end_time for span in requests)
    assert len(kept.named("thought")) == len(first.tree) - 1


def test_a_cancelled_search_loses_no_span() -> None:
    """Its spans end, and the search's has the status of an error."""
    kept = Kept()

    async def leave() -> None:
        thoughts: list[Event] = []

        def handle(event: Event) -> None:
            thoughts.extend([event] if event.type == "thought" else [])
            if len(thoughts) == 2:
                running.cancel()

        agent = Agent(task(), backend=TreeBackend(TREE, order=1)).with_tracing(kept.tracing)
        running = asyncio.ensure_future(agent.asolve("r", on_event=handle))
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(leave())
    [root] = kept.named("invoke_agent")
    assert root.attributes["error.type"] == "cancelled"
    assert len(kept.named("thought")) >= 2


def test_a_tracer_that_fails_ends_no_search(caplog: pytest.LogCaptureFixture) -> None:
    """The search goes on without it, with one warning that names it."""

    class Broken(export.SpanProcessor if hasattr(export, "SpanProcessor") else sdk.SpanProcessor):  # type: ignore[misc]
        def on_end(self, span: Any) -> None:
            raise OSError("the disk is full")

    expected = Agent(task(), backend=TreeBackend(TREE)).solve("r")
    agent = Agent(task(), backend=TreeBackend(TREE)).with_tracing(Kept(processor=Broken()).tracing)
    with caplog.at_level(logging.WARNING, "treeagent"):
        assert essence(agent.solve("r")) == essence(expected)
    [warning] = caplog.records
    assert "'Tracing' failed: OSError: the disk is full" in warning.getMessage()


def test_nothing_of_opentelemetry_is_imported_where_it_is_off(tmp_path: Path) -> None:
    """A whole command, in a process of its own."""
    (tmp_path / "rules.yaml").write_text('- {match: "", text: "sure"}\n')
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom treeagent.cli import app\n"
        "words = ['solve', '-i', '4 5 6 10', '--task', 'game24', '--backend', 'scripted', '--model', 'rules.yaml']\n"
        "assert CliRunner().invoke(app, words).exit_code in (0, 1)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'mcp')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
