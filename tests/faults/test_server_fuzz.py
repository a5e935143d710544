"""Mutated replies of a server: the error hierarchy or a clean result, whatever arrives.

``SERVER_FUZZ=10000 pytest tests/faults/test_server_fuzz.py`` tries so many of each kind.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_server import Time

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError
from treeagent.reply import Reply, Scores
from treeagent.request import Key, Request, Sampling, ScoreRequest

EXAMPLES = int(os.environ.get("SERVER_FUZZ", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

REQUEST = Request("x", Key(1, "propose", "0"), Sampling(temperature=0.7, max_tokens=4, stop=("\n\n",)), n=2)
SCORING = ScoreRequest("x", (" sure", " no"))

CHAT = {
    "id": "c", "object": "chat.completion", "model": "toy",
    "choices": [
        {"index": place, "finish_reason": "stop",
         "message": {"role": "assistant", "content": "<think>a</think>4 + 9", "reasoning_content": None},
         "logprobs": {"content": [{"token": "sure", "id": 3, "logprob": -0.5,
                                   "top_logprobs": [{"token": "no", "id": 4, "logprob": -1.5}]}]}}
        for place in range(2)
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}  # fmt: skip
TEXT = {
    "choices": [
        {"index": place, "finish_reason": "length", "text": "4 + 9",
         "logprobs": {"token_logprobs": [None, -0.5, -0.5, -0.5], "top_logprobs": [{" sure": -0.5, " no": -1.0}]}}
        for place in range(3)
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}  # fmt: skip
ERROR = {"error": {"message": "too long", "type": "x", "code": "context_length_exceeded", "param": None}}
MODELS = {"data": [{"id": "toy", "owned_by": "vllm", "root": "toy", "aliases": []}]}
TOKENS = {"tokens": [1, 2, 3], "prompt": "x", "count": 3}

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**4000), st.floats(), st.text(max_size=5), st.just("\ud83d"),
    st.just([]), st.just({}), st.lists(st.integers(), max_size=2), st.just(-1), st.just("</think>"), st.just(1e308),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A reply with some of its values replaced, removed or repeated."""
    reply = json.loads(json.dumps(draw(st.sampled_from([CHAT, TEXT, ERROR, MODELS, TOKENS]))))
    for _ in range(draw(st.integers(0, 3))):
        holders: list[Any] = []
        pending: list[Any] = [reply]
        while pending:
            value = pending.pop()
            if isinstance(value, dict | list) and value:
                holders.append(value)
                pending.extend(value.values() if isinstance(value, dict) else value)
        if not holders:
            break
        holder = draw(st.sampled_from(holders))
        place = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        how = draw(st.sampled_from(["replace", "remove", "repeat"]))
        if how == "replace":
            holder[place] = draw(ODD)
        elif how == "remove":
            del holder[place]
        elif isinstance(holder, list):
            holder.append(holder[place])
    return reply


@st.composite
def replies(draw: st.DrawFn) -> httpx.Response:
    """A reply over HTTP: mutated JSON, cut, with bytes changed, in an odd encoding, with an odd status."""
    body = json.dumps(draw(mutated())).encode()
    how = draw(st.sampled_from(["whole", "whole", "whole", "cut", "bytes", "utf-16", "gzip", "false gzip", "raw"]))
    headers = {"content-type": draw(st.sampled_from(["application/json", "text/html", "", "\xff"]))}
    if how == "cut":
        body = body[: draw(st.integers(0, len(body)))]
    elif how == "bytes":
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + draw(st.binary(max_size=3)) + body[place + 1 :]
    elif how == "utf-16":
        body = body.decode().encode("utf-16")
    elif how == "raw":
        body = draw(st.binary(max_size=20))
    elif "gzip" in how:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body) if how == "gzip" else body
    if draw(st.integers(0, 9)) == 0:
        headers["x-ratelimit-reset"] = draw(st.sampled_from(["-1", "1e9", "9" * 400, "soon", "6m0s"]))
        headers["retry-after"] = draw(st.sampled_from(["-1", "nan", "9" * 400, "Thu, 99 Jan 2026", "1"]))
    status = draw(st.sampled_from([200] * 8 + [201, 204, 302, 400, 401, 404, 413, 429, 500, 599]))
    return httpx.Response(status, headers=[(name, value.encode("latin-1")) for name, value in headers.items()],
                          stream=Bytes(body))  # fmt: skip


class Bytes(httpx.AsyncByteStream):
    """A body as it comes over the wire, in two pieces."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # as httpx wants it
        yield self.body[:7]
        yield self.body[7:]


class Wire(httpx.AsyncBaseTransport):
    """Answers with replies in their order, the last one again and again."""

    def __init__(self, script: list[httpx.Response]) -> None:
        self.script, self.asked = script, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The next reply."""
        reply = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        assert self.asked < 200, "the backend asks for ever"
        return httpx.Response(reply.status_code, headers=reply.headers, stream=reply.stream)


OPTIONS: list[dict[str, Any]] = [
    {"server": "vllm", "chat": True, "score": "none"},
    {"server": "hosted", "chat": False, "score": "first"},
    {"server": "hosted", "chat": True, "score": "first"},
    {"server": "vllm", "chat": False, "score": "echo"},
    {"server": "sglang", "chat": False, "score": "echo"},
    {"server": "vllm", "chat": True, "score": "echo"},
    {"server": "llamacpp", "chat": False, "score": "top"},
    {},
]


@pytest.mark.parametrize("scoring", [False, True])
@FUZZ
@given(script=st.lists(replies(), min_size=1, max_size=3), options=st.sampled_from(OPTIONS), named=st.booleans())
def test_whatever_a_server_sends_is_an_answer_or_a_clear_error(
    scoring: bool, script: list[httpx.Response], options: dict[str, Any], named: bool
) -> None:
    """One line without a lone surrogate, or records of the right types that strict JSON can hold."""
    wire, backend = Wire(script), OpenAIBackend("toy" if named else None, base_url="http://h/v1", attempts=2, **options)
    backend.clock = Time().clock()
    client = backend._connected()
    client._connect = lambda url: httpx.AsyncClient(transport=wire)  # type: ignore[method-assign]
    try:
        result: Reply | Scores = asyncio.run(backend.score(SCORING) if scoring else backend.generate(REQUEST))
    except BackendError as error:
        text = str(error)
        assert text.encode()
        assert "\n" not in text
        assert len(text) < 2000
    except TypeError as error:
        assert "does not declare the capability 'score'" in str(error)  # noqa: PT017
    else:
        if isinstance(result, Reply):
            assert len(result.completions) == REQUEST.n
            assert all(one.finish in ("stop", "length", "refused") for one in result.completions)
            assert all("\n\n" not in one.text and one.text.encode() is not None for one in result.completions)
        else:
            assert all(value <= 0 for value in result.logprobs)
            json.dumps(result.logprobs, allow_nan=False)
        assert json.dumps([result.usage.prompt_tokens, result.usage.completion_tokens])
