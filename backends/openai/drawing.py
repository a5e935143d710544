"""Draws samples of a request, and learns from them whether the model thinks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from treeagent.reply import Completion, Usage
from treeagent.request import Request

from .dialect import RequestDialect
from .probe import Server
from .protocol import SEED_BITS, Answer, TextRules, completions, prompt_fields, sampling_fields, usage

Post = Callable[[str, "dict[str, Any]", str], Awaitable["tuple[Answer, dict[str, Any]]"]]
"""Sends a body of a role to an endpoint; returns the reply, and the body as the server takes it."""


async def draw(
    request: Request, server: Server, post: Post, n: int, sample: int, dialect: RequestDialect | None
) -> tuple[list[Completion], Usage]:
    """Draw ``n`` samples, with the noise of sample number ``sample``. Raises BackendError.

    Once the model thinks, ``dialect`` keeps stop strings back, and a completion that one has ended within the thinking
    is requested again; None: the user has decided who looks for stop strings.
    """
    endpoint, body = prompt_fields(request.prompt, chat=server.chat)
    body |= sampling_fields(request.sampling, server.kind, "max_tokens")
    body["seed"] = request.key.stream(sample) % (1 << SEED_BITS)
    if n > 1:
        body["n"] = n
    rules = TextRules(request.sampling.stop, server.thinking, server.chat)
    cost = Usage()
    while True:
        answer, sent = await post(endpoint, body, request.key.role)
        drawn, cost = completions(answer, rules), cost + usage(answer)
        thoughts = [completion for completion in drawn if completion.reasoning is not None]
        if thoughts and dialect is not None:
            dialect.keep_stop()
            if "stop" in sent and any(thought.finish == "stop" and not thought.text for thought in thoughts):
                continue  # now without stop strings
        return drawn, cost
