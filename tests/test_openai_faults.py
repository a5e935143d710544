"""What the backend ``openai`` does when the server, or the way to it, fails. No test waits."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from failing_server import REQUEST, Case
from failing_server import case as case  # noqa: PLC0414  the fixture
from openai_server import Answer, Asked, Model, error

from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling


def test_a_server_that_is_down_is_tried_again_and_then_named(case: Case) -> None:
    """Nobody listens at the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        text = case.fails(base_url=url, attempts=3)
    assert len(case.time.slept) == 2
    assert f"{url}/chat/completions: cannot connect" in text
    assert "is the server running" in text


def test_a_slow_server_is_given_up_and_its_connection_closed(case: Case) -> None:
    """The request has arrived, its answer never comes; each attempt leaves nothing behind."""
    slow: list[Asked] = []

    def never(asked: Asked) -> Answer:
        slow.append(asked)
        return Answer(never=True)

    async def within(work: Awaitable[Any], seconds: float) -> Any:
        task = asyncio.ensure_future(work)
        await asyncio.to_thread(case.server.arrived.wait)
        case.server.arrived.clear()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise TimeoutError

    backend = case.backend(clock={"within": within}, attempts=2, timeout=30)
    case.script = [never, never]
    with pytest.raises(BackendError, match="no answer within 30 s"):
        asyncio.run(backend.generate(REQUEST))
    assert len(slow) == 2
    assert all(asked.left.wait(60) for asked in slow)


def test_cancelling_a_request_closes_its_connection_and_its_place_is_free(case: Case) -> None:
    """What was cancelled costs the server nothing more, and those after it are answered."""
    backend = case.backend(concurrency=1)
    case.script = [Answer(never=True)]

    async def run() -> None:
        task = asyncio.ensure_future(backend.generate(REQUEST))
        await asyncio.to_thread(case.server.arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert case.server.asked[0].left.wait(60)
        assert (await backend.generate(REQUEST)).completions

    asyncio.run(run())


def test_one_failing_sample_ends_the_others(case: Case) -> None:
    """Of n requests for one reply, those still under way are cancelled when one of them is refused."""
    hung: list[Asked] = []

    def never(asked: Asked) -> Answer:
        hung.append(asked)
        return Answer(never=True)

    async def make() -> asyncio.Event:
        return asyncio.Event()

    both = asyncio.run_coroutine_threadsafe(make(), case.server.loop).result()

    async def gate(asked: Asked) -> None:
        if len(case.server.asked) == 2:
            both.set()
        await both.wait()

    backend = case.backend(deterministic=True)
    case.script = [never, error(400, "no")]
    case.server.gate = gate
    request = Request("x", Key(1, "a", "0"), Sampling(temperature=1.0, max_tokens=2), n=2)
    with pytest.raises(BackendError, match="400"):
        asyncio.run(backend.generate(request))
    assert [asked.left.wait(60) for asked in hung] == [True]


@pytest.mark.parametrize("cut", [0, 30, -5])
def test_a_connection_that_breaks_is_tried_again(case: Case, cut: int) -> None:
    """Before the answer, within its head, within its body."""

    def half(asked: Asked) -> Answer:
        answer = Model()(asked)
        answer.cut = cut
        return answer

    assert len(case.ask(half, half).completions) == 1
    assert len(case.server.asked) == 3
    assert "the connection broke" in case.fails(half, half, attempts=2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(b"<html>welcome</html>", headers={"content-type": "text/html"}), "not a JSON object but text/html"),
        (Answer(b'{"choices": [{"te'), "not a JSON object"),
        (Answer(b"\xff\xfe\x00"), "not a JSON object"),
        (Answer(b""), "nothing"),
        (Answer([1, 2]), "not a JSON object"),
        (Answer({"hello": 1}), "has no 'choices' (it has: hello)"),
        (Answer({"choices": []}), "has no 'choices'"),
        (Answer({"choices": "x"}), "has no 'choices'"),
        (Answer({"choices": [{"message": {"content": 5}}]}), "choices[0].message.content: expected a text, not 5"),
        (Answer({"error": {"message": "no credit", "code": 402}}), "no credit"),
        (Answer(b"", status=302, headers={"location": "https://elsewhere.example/"}), "302"),
        (Answer({"detail": "Not Found"}, status=404), "Not Found"),
        (Answer({"object": "error", "message": "of old", "code": 404}, status=404), "of old"),
    ],
)
def test_garbage_is_named_and_not_asked_for_again(case: Case, answer: Answer, said: str) -> None:
    """An answer that is none is a mistake in the address or in the server; waiting does not cure it."""
    assert said in case.fails(answer)
    assert len(case.server.asked) == 1


def test_an_error_within_a_good_answer_may_pass(case: Case) -> None:
    """Gateways send 200 and put the refusal of what is behind them into the text."""
    assert case.ask(Answer({"error": {"message": "upstream busy", "code": 502}})).completions
    assert case.time.slept == [0.25]


def test_a_wrong_content_type_does_not_matter_where_the_content_is_right(case: Case) -> None:
    """Some servers call their JSON text."""

    def text(asked: Asked) -> Answer:
        answer = Model()(asked)
        answer.headers["content-type"] = "text/plain"
        return answer

    assert case.ask(text).completions


def test_a_missing_v1_is_suspected(case: Case) -> None:
    """The commonest mistake in an address."""
    text = case.fails(base_url=case.server.url.removesuffix("/v1"))
    assert "404" in text
    assert "does base_url lack the ending /v1?" in text


def test_a_model_that_is_not_there_is_named_with_those_that_are(case: Case) -> None:
    """As the server lists them; the list is requested only where no option gives the kind of server."""
    text = case.fails(model="tay", server=None)
    assert f"{case.server.url}/models: the server has no model 'tay'" in text
    assert "Did you mean 'toy'?" in text


def test_tokens_that_the_server_does_not_count_are_unknown(case: Case) -> None:
    """Never 0, neither in the usage nor in the speed."""
    backend = case.backend()
    meter = backend.meter()
    case.script = [Model(usage=False)]
    reply = asyncio.run(backend.generate(REQUEST))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (None, None)
    assert meter()["tokens_per_second"] is None


@pytest.mark.parametrize("hangs", ["models", "completions"])
def test_ctrl_c_ends_a_program_whose_server_hangs(case: Case, hangs: str) -> None:
    """While the server is asked what it is as well as during the search; the connection is closed."""
    hung: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        if not asked.path.endswith(hangs) or (hangs == "completions" and asked.body["max_tokens"] == 1):
            return Model()(asked)
        hung.append(asked)
        reached.set()
        return Answer(never=True)

    reached = threading.Event()
    case.server.handler = answer
    command = [sys.executable, "-m", "treeagent", "solve", "--task", "game24", "--backend", "openai", "-q",
               "--set", f"backend.base_url={case.server.url}"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert reached.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    assert hung[0].left.wait(60)
