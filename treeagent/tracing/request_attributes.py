"""What the span of a request says of it, by the semantic conventions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opentelemetry.util.types import AttributeValue

from ..runtime.setup import Setup
from . import conventions as names

_GENERATOR_ROLES = ("propose", "sample", "answer", "io", "cot", "reflect")
"""Roles of the generator's requests; the others are the evaluator's."""


class RequestAttributes:
    """Names and attributes of the spans of requests, without any text of theirs."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def of(self, kind: str, data: dict[str, Any]) -> tuple[str, dict[str, AttributeValue]]:
        """Name and attributes of the span of a request that an event of this kind reports."""
        role = data.get("role")
        asks_generator = kind != "scores" and role in _GENERATOR_ROLES
        generator = self._setup.others.get(data.get("model") or "", self._setup.backend)
        backend = generator if asks_generator else self._setup.judging
        chat = bool(data.get("messages")) or getattr(backend, "chat", False) is True
        operation = names.SCORE if kind == "scores" else names.CHAT if chat else names.TEXT_COMPLETION
        values: dict[str, AttributeValue | None] = {
            names.OPERATION: operation,
            names.PROVIDER: backend.name,
            names.MODEL: backend.model,
            "treeagent.request.id": data["id"],
            "treeagent.role": role,
        }
        if kind != "scores" and role is not None:
            sampling, _ = self._setup.task.sampling(role)
            values |= {
                names.TEMPERATURE: sampling.temperature,
                names.TOP_K: sampling.top_k,
                names.TOP_P: sampling.top_p,
                names.MAX_TOKENS: sampling.max_tokens,
            }
        if kind != "refused":
            usage = data["usage"]
            values |= {
                names.INPUT_TOKENS: usage["prompt_tokens"],
                names.OUTPUT_TOKENS: usage["completion_tokens"],
                names.REASONING_TOKENS: usage.get("reasoning_tokens"),
                "treeagent.recorded": True if data["seconds"] is None else None,
            }
        if kind == "completion":
            values[names.CHOICES] = len(data["completions"])
            values[names.FINISH_REASONS] = [each["finish"] for each in data["completions"]]
        name = " ".join(filter(None, (operation, backend.model)))
        return name, {name: value for name, value in values.items() if value is not None}


def messages(before: Sequence[dict[str, Any]], prompt: str) -> str:
    """The messages of a request and its prompt, as the conventions have them."""
    chat = [*before, {"role": "user", "content": prompt}]
    return json.dumps([{"role": each["role"], "parts": [_text(each["content"])]} for each in chat])


def reply_messages(completions: Sequence[dict[str, Any]]) -> str:
    """Completions as the conventions have them: ``reasoning`` apart from the text."""
    return json.dumps([
        {
            "role": "assistant",
            "parts": [
                *([{"type": "reasoning", "content": each["reasoning"]}] if each.get("reasoning") else ()),
                _text(each["text"]),
            ],
            "finish_reason": each["finish"],
        }
        for each in completions
    ])  # fmt: skip


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}
