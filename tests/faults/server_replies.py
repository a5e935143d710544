"""Replies of servers as tests write them, and the backend that reads them."""

from __future__ import annotations

import asyncio
from typing import Any

from openai_server import Answer, Listen, Time

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

SECRET = "sk-very-secret-0123456789abcdef"  # noqa: S105  # of no use anywhere
DECLARED: dict[str, Any] = {"server": "vllm", "chat": True, "score": "none"}
"""So that nothing is asked beforehand."""


def wanted(n: int = 1, prompt: str = "Numbers: 4 5", **sampling: Any) -> Request:
    """A request for four sampled tokens."""
    return Request(prompt, Key(3, "value", "0.1"), Sampling(**{"temperature": 0.7, "max_tokens": 4, **sampling}), n)


def backend_at(url: str, **options: Any) -> OpenAIBackend:
    """One that asks nothing beforehand and never waits."""
    backend = OpenAIBackend("toy", **{"base_url": url, **DECLARED, **options})
    backend.clock = Time().clock()
    return backend


def reply_to(listen: Listen, body: Any, request: Request | None = None, **options: Any) -> Reply:
    """The reply of a fresh backend to a server that always answers with this body."""
    answer = body if isinstance(body, Answer) else Answer(body)
    url = listen(lambda asked: answer).url
    return asyncio.run(backend_at(url, **options).generate(request or wanted()))


def chat(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """A reply with one choice."""
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def said(text: Any, finish: Any = "stop") -> dict[str, Any]:
    """A reply with one text."""
    return chat({"role": "assistant", "content": text}, finish)
