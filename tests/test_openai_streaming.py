"""Streams of servers that speak OpenAI's protocol: read as they come, whole in the end, and what breaks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import Answer, Asked, Model, Server, Time, error, events

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.event_stream import EventStream, read_events
from treeagent.backends.openai.outbox import deliver
from treeagent.errors import BackendError
from treeagent.reply import Partial, Reply, Usage
from treeagent.request import Key, Request, Sampling

REQUEST = Request("Numbers: 1 2", Key(1, "propose", "0"), Sampling(temperature=1.0, max_tokens=9), n=2)


class Case:
    """A server that answers by a script and then well, and what a backend hands out."""

    def __init__(self, stack: ExitStack) -> None:
        self.script: list[Callable[[Asked], Answer]] = []
        self.model = Model()
        self.server = stack.enter_context(Server(self._answer).listening())
        self.parts: list[Partial] = []

    def _answer(self, asked: Asked) -> Answer:
        return self.script.pop(0)(asked) if self.script else self.model(asked)

    def backend(self, **options: Any) -> OpenAIBackend:
        """One that asks nothing beforehand."""
        declared = {"server": "vllm", "chat": True, "score": "none", "base_url": self.server.url}
        opened = OpenAIBackend("toy", **{**declared, **options})
        opened.clock = Time().clock()
        return opened

    def stream(self, *script: Callable[[Asked], Answer], request: Request = REQUEST, **options: Any) -> Reply:
        """The reply of a fresh backend."""
        self.script, self.parts = list(script), []
        return asyncio.run(self.backend(**options).stream(request, self.parts.append))

    def plain(self, request: Request = REQUEST, **options: Any) -> Reply:
        """The reply that is not streamed."""
        return asyncio.run(self.backend(**options).generate(request))


@pytest.fixture
def case() -> Iterator[Case]:
    with ExitStack() as stack:
        yield Case(stack)


def cut(asked: Asked) -> Answer:
    """A stream that ends after a few events as if nothing was wrong."""
    answer = Model()(asked)
    answer.body = b"\n\n".join(answer.body.split(b"\n\n")[:9])
    return answer


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_streamed_reply_is_that_of_one_piece(case: Case, chat: bool, deterministic: bool) -> None:
    """Texts, ends and usage are those of a plain request, together or in one request for each sample."""
    options = {"chat": chat, "deterministic": deterministic}
    assert case.stream(**options) == case.plain(**options)
    assert len([part for part in case.parts if not part.whole]) > 10
    assert case.server.bodies[0]["stream_options"] == {"include_usage": True}
    assert "stream" not in case.server.bodies[-1]


def test_equal_samples_grow_together(case: Case) -> None:
    """At temperature 0 the one text that is drawn is handed out for every sample."""
    reply = case.stream(request=replace(REQUEST, sampling=Sampling(max_tokens=4), n=3))
    assert {part.sample for part in case.parts} == {0, 1, 2}
    assert [part.text for part in case.parts if part.whole] == [reply.completions[0].text] * 3


def test_text_of_a_stop_string_is_held_back(case: Case) -> None:
    """The server does not look for stop strings; no text that one begins in is handed out."""
    request = replace(REQUEST, sampling=replace(REQUEST.sampling, stop=("ly im", " 4 steps"), max_tokens=40))
    reply = case.stream(request=request)
    assert reply == case.plain(request)
    for part in case.parts:
        assert reply.completions[part.sample].text.startswith(part.text)


def test_thinking_is_held_back(case: Case) -> None:
    """Thinking between marks is not handed out, wherever the events cut the marks."""
    text = "<think>4 + 5\nis 9</think>\n\n9 + 6 = 15"
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    answer = events({"choices": [choice], "usage": usage}, size=2)
    reply = case.stream(lambda asked: answer, request=replace(REQUEST, n=1))
    assert reply.completions[0].text == "9 + 6 = 15"
    assert reply.completions[0].reasoning == "4 + 5\nis 9"
    assert all("9 + 6 = 15".startswith(part.text) for part in case.parts)
    assert len(case.parts) > 3


def test_a_stream_that_breaks_off_is_tried_again(case: Case) -> None:
    """In the middle of a connection or after its proper end; what follows is handed out only where it is new."""

    def broken(asked: Asked) -> Answer:
        answer = Model()(asked)
        answer.cut = 700
        return answer

    for fault in (cut, broken):
        reply = case.stream(fault, deterministic=True)
        assert reply == case.plain(deterministic=True)
        for sample in range(2):
            texts = [part.text for part in case.parts if part.sample == sample]
            assert texts == sorted(texts, key=len)
            assert len(set(texts)) >= len(texts) - 1  # the whole one may repeat the last
    with pytest.raises(BackendError, match="broke off before its end"):
        case.stream(cut, cut, attempts=2, request=replace(REQUEST, n=1))


def test_an_error_within_a_stream_is_that_of_the_server(case: Case) -> None:
    """A transient one is tried again, another one is reported."""

    def failing(code: int) -> Callable[[Asked], Answer]:
        body = f'data: {{"error": {{"message": "engine dead", "code": {code}}}}}\n\n'.encode()
        return lambda asked: Answer(body, headers={"content-type": "text/event-stream"})

    assert case.stream(failing(503)) == case.plain()
    with pytest.raises(BackendError, match="engine dead"):
        case.stream(failing(401), request=replace(REQUEST, n=1))


def test_a_server_that_refuses_streams_is_asked_for_whole_replies(case: Case) -> None:
    """One refusal teaches it; the texts are handed out whole."""
    refusal = error(400, "Streaming is not supported for this model.")
    backend = case.backend()
    case.script = [lambda asked: refusal]
    for _ in range(2):
        case.parts = []
        reply = asyncio.run(backend.stream(REQUEST, case.parts.append))
        assert [(part.text, part.whole) for part in case.parts] == [(one.text, True) for one in reply.completions]
    assert ["stream" in body for body in case.server.bodies] == [True, False, False]


def test_a_stream_without_token_counts_is_the_last_one(case: Case) -> None:
    """A budget needs them, and plain replies may have them."""
    case.model = Model(usage=False)
    backend = case.backend()
    for _ in range(2):
        asyncio.run(backend.stream(REQUEST, case.parts.append))
    assert ["stream" in body for body in case.server.bodies] == [True, False]


def test_a_server_that_ignores_the_wish_for_a_stream_is_read_as_usual(case: Case) -> None:
    """It replies in one piece."""
    case.model = Model(streams=False)
    assert case.stream() == case.plain()
    assert all(part.whole for part in case.parts)


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["equal samples", "one event of two samples"])
def test_a_cancellation_comes_between_samples(case: Case, temperature: float) -> None:
    """Texts that come at once are handed out one by one, and none after the request has been cancelled."""
    choices = [{"index": i, "text": f"{i} + 5 = 9", "finish_reason": "stop"} for i in range(2 if temperature else 1)]
    event = json.dumps({"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    answer = Answer(f"data: {event}\n\ndata: [DONE]\n\n".encode(), headers={"content-type": "text/event-stream"})
    backend = case.backend(chat=False)
    case.script = [lambda asked: answer]
    request = replace(REQUEST, sampling=replace(REQUEST.sampling, temperature=temperature), n=2)

    async def run() -> None:
        def stop(part: Partial) -> None:
            case.parts.append(part)
            task.cancel()

        task = asyncio.ensure_future(backend.stream(request, stop))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert len(case.parts) == 1


def test_nothing_is_handed_out_after_a_cancellation_while_samples_are_still_written() -> None:
    """A task within the request may learn of its cancellation late, as those of ``asyncio.wait_for`` do."""
    parts: list[Partial] = []

    async def write(keep: Callable[[Partial], None]) -> Reply:
        for _ in range(9):
            keep(Partial(0, "4 + 5 = 9", None))
            await asyncio.sleep(0)
        return Reply((), Usage())

    async def work(keep: Callable[[Partial], None]) -> Reply:
        return await asyncio.shield(write(keep))

    async def run() -> None:
        def stop(part: Partial) -> None:
            parts.append(part)
            task.cancel()

        task = asyncio.ensure_future(deliver(work, stop))
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))  # type: ignore[arg-type]  # of the loop

    asyncio.run(run())
    assert len(parts) == 1


@given(st.binary(max_size=60), st.lists(st.integers(1, 20), max_size=8))
def test_pieces_of_the_network_change_nothing(noise: bytes, sizes: list[int]) -> None:
    """However the bytes of a stream are cut, and whatever stands between events, the reply is the same."""
    choices = [{"index": 0, "text": "é 😀 ab", "finish_reason": "stop"}]
    answer = events({"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, size=1)
    body = b":" + noise.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\n" + answer.body

    async def chunks(body: bytes = body) -> Any:
        for size in sizes:
            yield body[:size]
            body = body[size:]
        yield body

    def ignore(stream: EventStream) -> None:
        assert "é 😀 ab".startswith(stream.texts().get(0, "").encode("utf-16", "surrogatepass").decode("utf-16"))

    stream = asyncio.run(read_events(chunks(), 10**6, ignore))
    assert stream.complete
    assert json.loads(stream.body())["choices"][0]["text"] == "é 😀 ab"
