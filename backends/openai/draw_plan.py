"""Draws samples of a request, and learns from them whether the model thinks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from treeagent.reply import Completion, OnText, Usage
from treeagent.request import Request

from .answers import RefusedForGood, Rejected
from .constraint_fields import check_kept, constraint_fields
from .dialect import RequestDialect
from .probe import Server
from .protocol import SEED_BITS, Answer, TextRules, completions, prompt_fields, sampling_fields, usage
from .text_listener import TextListener

if TYPE_CHECKING:
    from .client import Arrived

Post = Callable[[str, "dict[str, Any]", str, "Arrived | None"], Awaitable["tuple[Answer, dict[str, Any]]"]]
"""Sends a body of a role to an endpoint, and reads its reply as a stream where there is something to take its events;
returns the reply, and the body as the server takes it."""


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """The part of a request's samples that one request over HTTP draws."""

    n: int
    sample: int
    """The number of the sample whose noise it has."""
    on_text: OnText | None = None
    """Takes texts as they grow."""

    def samples(self, request: Request) -> list[list[int]]:
        """For each choice the samples that it is the text of: all of them where nothing is random."""
        if request.sampling.temperature == 0:
            return [list(range(request.n))]
        return [[self.sample + i] for i in range(self.n)]


async def draw(
    request: Request, server: Server, post: Post, plan: DrawPlan, dialect: RequestDialect | None
) -> tuple[list[Completion], Usage]:
    """Draw samples; none of several where the server refuses to draw them together. Raises BackendError.

    Once the model thinks, ``dialect`` keeps stop strings back, and a completion that one has ended within the thinking
    is requested again; None: the user has decided who looks for stop strings.
    """
    endpoint, body = prompt_fields(request.prompt, request.chat, server.kind, in_chat=server.chat)
    body |= sampling_fields(request.sampling, server.kind, "max_tokens")
    body |= constraint_fields(request.sampling, server.kind)
    body["seed"] = request.key.stream(plan.sample) % (1 << SEED_BITS)
    if plan.n > 1:
        body["n"] = plan.n
    marks = server.thinking
    if marks is not None and request.chat.switched_off:
        marks = replace(marks, opened=False)  # the server's default template may open thinking
    rules = TextRules(request.sampling.stop, marks, server.chat)
    listener = None if plan.on_text is None else TextListener(plan.on_text, rules, plan.samples(request))
    cost = Usage()
    while True:
        try:
            answer, sent = await post(endpoint, body, request.key.role, None if listener is None else listener.arrived)
        except RefusedForGood:
            raise
        except Rejected as error:
            if plan.n == 1 or error.status not in (400, 422):
                raise
            return [], Usage()  # a request for one sample shows whether n was the reason
        drawn, spent = completions(answer, rules), usage(answer)
        thoughts = [completion for completion in drawn if completion.reasoning is not None]
        if not thoughts and spent.reasoning_tokens is None:
            spent = replace(spent, reasoning_tokens=0)
        cost += spent
        if thoughts and dialect is not None:
            dialect.keep_stop()
            if "stop" in sent and any(thought.finish == "stop" and not thought.text for thought in thoughts):
                continue  # now without stop strings
        for completion in drawn:
            check_kept(completion, request.sampling)
        if listener is not None:
            listener.completed(drawn)
        return drawn, cost
