"""The spans of one search, made from its events.

The tree of the spans is the tree of the thoughts: a thought is below its parent, a first thought below the search.
Requests and observations are below the thought that they belong to, and the rounds of an engine below the search, for
one round serves requests of many thoughts. A thought's span lasts until the last event in its subtree.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from ..runtime.journal import ROUND, Event
from ..runtime.setup import Setup
from . import conventions as names
from .request_attributes import RequestAttributes, messages, reply_messages

_ROOT = 0
"""Id of the thought that is the search's input."""


@dataclass(slots=True)
class OpenThought:
    """The span of a thought, until the search ends."""

    span: Span
    parent: int | None
    began: int
    """Nanoseconds since 1970, as :attr:`last`."""
    last: int


class SearchSpans:
    """The spans of one search; a :class:`treeagent.runtime.setup.SearchTrace`."""

    def __init__(self, tracer: Tracer, setup: Setup, *, content: bool) -> None:
        """Begins the span of the search. With ``content`` spans have texts."""
        self._tracer, self._setup, self._content = tracer, setup, content
        self._requests = RequestAttributes(setup)
        self._epoch = time.time_ns() - time.monotonic_ns()  # so that a clock that is set does not bend the spans
        agent = f"{setup.task.name}/{setup.name_of('search')}"
        began = self._now()
        attributes: dict[str, AttributeValue] = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT: agent,
            names.PROVIDER: setup.backend.name,
            "treeagent.task": setup.task.name,
            "treeagent.search": setup.name_of("search"),
            "treeagent.seed": setup.seed,
        }
        span = tracer.start_span(f"{names.INVOKE_AGENT} {agent}", attributes=attributes, start_time=began)
        self._thoughts = {_ROOT: OpenThought(span, None, began, began)}
        self._ended = False

    def record(self, event: Event, seconds: float) -> None:
        """Make what follows from an event that has just happened, ``seconds`` after the search began."""
        now, data = self._now(), event.data
        match event.type:
            case "run" if self._content:
                self._search.set_attribute(names.INPUT_MESSAGES, messages((), data["input"]))
            case "thought":
                self._thought(data, now)
            case "completion" | "scores" | "refused":
                self._request(event.type, data, now)
            case "observed":
                self._observation(data, now)
            case "rounds":
                self._rounds(data, now - round(seconds * 1e9))
            case "judged":
                self._judgement(data, now)
            case "dropped":
                self._touch(data["id"], now).span.add_event("treeagent.dropped", {"treeagent.why": data["why"]}, now)
            case "answer":
                text = {"treeagent.answer": data["answer"]} if self._content and data["answer"] is not None else {}
                self._touch(data["id"], now).span.add_event("treeagent.answer", text, now)
            case "failed":
                self._search.set_attribute(names.ERROR, "failed")
                self._search.set_status(Status(StatusCode.ERROR, data["error"] if self._content else None))
            case "end":
                self._end(data)

    def close(self) -> None:
        """End all spans; a search without its last event was cancelled."""
        if not self._ended:
            self._search.set_attribute(names.ERROR, "cancelled")
            self._search.set_status(Status(StatusCode.ERROR))
        root, *others = self._thoughts.values()
        for thought in reversed(others):
            thought.span.end(thought.last)
        root.span.end(self._now())

    @property
    def _search(self) -> Span:
        return self._thoughts[_ROOT].span

    def _now(self) -> int:
        """Nanoseconds since 1970."""
        return self._epoch + time.monotonic_ns()

    def _touch(self, id: int | None, now: int) -> OpenThought:
        """The thought of an id, the root for an unknown one; it and all above it last until now."""
        touched = self._thoughts.get(_ROOT if id is None else id, self._thoughts[_ROOT])
        above: OpenThought | None = touched
        while above is not None:
            above.last = now
            above = None if above.parent is None else self._thoughts[above.parent]
        return touched

    def _span_below(
        self, parent: OpenThought, name: str, attributes: dict[str, AttributeValue], began: int,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:  # fmt: skip
        context = trace.set_span_in_context(parent.span)
        return self._tracer.start_span(name, context, kind, attributes, start_time=began)

    def _thought(self, data: dict[str, Any], now: int) -> None:
        parent = data["parent"] if data["parent"] in self._thoughts else _ROOT
        attributes: dict[str, AttributeValue] = {
            "treeagent.thought.id": data["id"],
            "treeagent.thought.depth": data["depth"],
            "treeagent.thought.path": ".".join(map(str, data["path"])),
            "treeagent.thought.terminal": data["terminal"],
        }
        if self._content:
            attributes["treeagent.thought.text"] = data["text"]
        span = self._span_below(self._touch(parent, now), "thought", attributes, now)
        self._thoughts[data["id"]] = OpenThought(span, parent, now, now)

    def _request(self, kind: str, data: dict[str, Any], now: int) -> None:
        thought = self._touch(data["thought"], now)
        name, attributes = self._requests.of(kind, data)
        if self._content:
            attributes[names.INPUT_MESSAGES] = messages(data.get("messages", ()), data["prompt"])
            if kind == "completion":
                attributes[names.OUTPUT_MESSAGES] = reply_messages(data["completions"])
        began = self._began(thought, data.get("seconds"), now)
        span = self._span_below(thought, name, attributes, began, SpanKind.CLIENT)
        if kind == "refused":
            span.set_attribute(names.ERROR, "refused")
            span.set_status(Status(StatusCode.ERROR, data["error"] if self._content else None))
        span.end(now)

    def _observation(self, data: dict[str, Any], now: int) -> None:
        thought = self._touch(data["thought"], now)
        tool = self._setup.task.name
        attributes: dict[str, AttributeValue] = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: tool}
        attributes |= {"treeagent.recorded": True} if data["seconds"] is None else {}
        if self._content:
            attributes[names.TOOL_ARGUMENTS] = json.dumps({"step": data["text"]})
            attributes |= {} if data["observation"] is None else {names.TOOL_RESULT: json.dumps(data["observation"])}
        span = self._span_below(
            thought, f"{names.EXECUTE_TOOL} {tool}", attributes, self._began(thought, data["seconds"], now)
        )
        if data["error"] is not None:
            span.set_attribute(names.ERROR, "tool_error")
            span.set_status(Status(StatusCode.ERROR, data["error"] if self._content else None))
        span.end(now)

    @staticmethod
    def _began(thought: OpenThought, seconds: float | None, now: int) -> int:
        """When something began that has just ended; not before its thought. What a journal answered took no time."""
        return now if seconds is None else max(now - round(seconds * 1e9), thought.began)

    def _rounds(self, data: dict[str, Any], origin: int) -> None:
        """A span for each round; their times count from ``origin``."""
        root = self._thoughts[_ROOT]
        for at, seconds, *counts in zip(*(data[column] for column in ROUND), strict=True):
            attributes: dict[str, AttributeValue] = {
                f"treeagent.round.{column}": count for column, count in zip(ROUND[2:], counts, strict=True)
            }
            attributes |= {} if data["model"] is None else {names.MODEL: data["model"]}
            began = max(origin + round(at * 1e9), root.began)
            self._span_below(root, "round", attributes, began).end(max(began, origin + round((at + seconds) * 1e9)))

    def _judgement(self, data: dict[str, Any], now: int) -> None:
        attributes: dict[str, AttributeValue] = {names.EVALUATION_NAME: self._setup.name_of("evaluator")}
        attributes |= {} if data["value"] is None else {names.EVALUATION_SCORE: data["value"]}
        if self._content and data["labels"]:
            attributes[names.EVALUATION_LABEL] = ", ".join(data["labels"])
        self._touch(data["id"], now).span.add_event(names.EVALUATION, attributes, now)

    def _end(self, data: dict[str, Any]) -> None:
        self._ended = True
        usage = data["usage"]
        attributes: dict[str, AttributeValue | None] = {
            names.MODEL: self._setup.backend.model,
            names.INPUT_TOKENS: usage["prompt_tokens"],
            names.OUTPUT_TOKENS: usage["completion_tokens"],
            "treeagent.calls": usage["calls"],
            "treeagent.thoughts": data["counts"]["thoughts"],
            "treeagent.ended": data["ended"],
            "treeagent.solved": data["solved"],
        }
        if self._content and data["answer"] is not None:
            attributes[names.OUTPUT_MESSAGES] = reply_messages([{"text": data["answer"], "finish": "stop"}])
        self._search.set_attributes({name: value for name, value in attributes.items() if value is not None})
