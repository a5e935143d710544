"""The objects of a chat completion, whole and in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runtime.events import Event, ThoughtEvent
from ..runtime.result import Result
from ..text import lines
from .protocol import finish_reason, outcome, usage_fields

OWNER = "treeagent"


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Builds the replies to one request."""

    id: str
    model: str
    created: int
    """Seconds since 1970."""

    def whole(self, result: Result, steps: str) -> dict[str, Any]:
        """The completion; ``steps`` are the texts of :func:`step_text` of all events."""
        message = {"role": "assistant", "content": result.answer, "reasoning_content": steps or None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(result)}
        extra = {"usage": usage_fields(result.usage), "treeagent": outcome(result)}
        return {**self._head("chat.completion"), "choices": [choice], **extra}

    def chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        """A part of the completion."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last(self, result: Result, *, with_usage: bool) -> list[dict[str, Any]]:
        """The chunks after the last step: the answer, the reason of the end, and the usage where it is wanted."""
        chunks = [] if result.answer is None else [self.chunk({"content": result.answer})]
        chunks.append({**self.chunk({}, finish=finish_reason(result)), "treeagent": outcome(result)})
        if with_usage:
            chunks.append({**self._head("chat.completion.chunk"), "choices": [], "usage": usage_fields(result.usage)})
        return chunks

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def step_text(event: Event) -> str:
    """The line of a new step, indented by its depth; empty for other events."""
    if not isinstance(event, ThoughtEvent):
        return ""
    indent = "  " * (event.depth - 1)
    return "".join(f"{indent}{line}\n" for line in lines(event.text))


def model_fields(name: str, created: int) -> dict[str, Any]:
    """A model in the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}
