"""A request to a fresh backend ``openai``, for tests of what it sends and makes of the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from openai_server import Server

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.request import Key, Request, Sampling


def wanted(n: int = 1, prompt: str = "Numbers: 4 5", **sampling: Any) -> Request:
    """A request for four sampled tokens."""
    return Request(prompt, Key(3, "propose", "0.1"), Sampling(**{"temperature": 0.7, "max_tokens": 4, **sampling}), n)


def ask(where: Server, request: Request, model: str | None = None, /, **options: Any) -> Any:
    """The reply of a fresh backend."""
    return asyncio.run(OpenAIBackend(model, base_url=where.url, **options).generate(request))


DECLARED = {"chat": True, "score": "none"}
