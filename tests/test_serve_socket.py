"""``treeagent serve`` on a socket: clients of others and our own, and clients that leave."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find
from serve_tools import MODEL, SlowTree, agent, chat, service_of, stream_data

from treeagent import BackendError, Budget, Key, Request, Sampling
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.server.app import make_app
from treeagent.server.background_server import BackgroundServer
from treeagent.server.load_test import main as load_test
from treeagent.server.search_service import SearchService

SEED = 6


@contextmanager
def serving(service: SearchService | None = None, **how: Any) -> Iterator[str]:
    """The address of a server."""
    service = service or service_of()
    with BackgroundServer(make_app(service, **how), service) as server:
        yield server.url


@pytest.fixture(scope="module")
def expected() -> Any:
    """What the agent answers."""
    return agent(seed=SEED).solve("r")


def test_curl_gets_the_answer_and_the_stream(expected: Any) -> None:
    """The two commands of the guide."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    with serving(token="t0ken") as url:  # noqa: S106
        head = ["curl", "-sSN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json"]
        head += ["-H", "Authorization: Bearer t0ken", "-d"]
        whole = subprocess.run([*head, json.dumps(chat(seed=SEED))], capture_output=True, text=True, check=True)
        assert json.loads(whole.stdout)["choices"][0]["message"]["content"] == expected.answer
        streamed = subprocess.run(
            [*head, json.dumps(chat(seed=SEED, stream=True))], capture_output=True, text=True, check=True
        )
        assert stream_data(streamed.stdout)[-1] == "[DONE]"


def test_the_openai_client_gets_the_answer_and_the_stream(expected: Any) -> None:
    """Models, an answer, a stream with its steps, budgets as extra fields, and errors by their classes."""
    openai = pytest.importorskip("openai")
    with serving(token="t0ken") as url:  # noqa: S106
        with openai.OpenAI(base_url=f"{url}/v1", api_key="t0ken", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == [MODEL]
            create = client.chat.completions.create
            messages = [{"role": "user", "content": "r"}]
            reply = create(model=MODEL, messages=messages, seed=SEED)
            assert reply.choices[0].message.content == expected.answer
            assert reply.usage.total_tokens == expected.usage.tokens
            chunks = list(
                create(model=MODEL, messages=messages, seed=SEED, stream=True, stream_options={"include_usage": True})
            )
            deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
            assert "".join(delta.content or "" for delta in deltas) == expected.answer
            steps = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
            assert [step.strip() for step in steps.splitlines()] == [t.text for t in list(expected.tree)[1:]]
            assert chunks[-1].usage.total_tokens == expected.usage.tokens
            short = create(model=MODEL, messages=messages, extra_body={"budget": {"calls": 1}})
            assert short.choices[0].finish_reason == "length"
            with pytest.raises(openai.NotFoundError, match="the nearest is"):
                create(model="synthetic/bsf", messages=messages)
            with pytest.raises(openai.BadRequestError, match="name of the root"):
                create(model=MODEL, messages=[{"role": "user", "content": "4"}], stream=True)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:  # noqa: SIM117
            with pytest.raises(openai.AuthenticationError):
                client.models.list()


def test_the_openai_client_raises_what_a_stream_ends_with() -> None:
    """A fault after the first chunk."""
    openai = pytest.importorskip("openai")

    async def fail() -> None:
        raise BackendError("no power")

    with serving(service_of(agent(SlowTree(fail)))) as url:  # noqa: SIM117
        with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
            stream = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "r"}], stream=True
            )
            with pytest.raises(openai.APIError, match="no power"):
                list(stream)


@pytest.mark.parametrize("streaming", [False, True])
def test_our_own_backend_reads_it(expected: Any, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search can be the model of another search: text, thinking and tokens."""
    monkeypatch.setenv("OPENAI_API_KEY", "t0ken")
    written: list[str] = []

    async def ask(url: str) -> Any:
        backend = OpenAIBackend(
            MODEL, base_url=f"{url}/v1", server="hosted", chat=True, score="none", deterministic=True
        )
        request = Request("r", Key(0, "io", ""), Sampling(max_tokens=500))
        try:
            if streaming:
                return await backend.stream(request, lambda part: written.append(part.text))
            return await backend.generate(request)
        finally:
            await backend.aclose()

    with serving(token="t0ken") as url:  # noqa: S106
        reply = asyncio.run(ask(url))
    [completion] = reply.completions
    assert completion.text
    assert completion.reasoning
    assert reply.usage.completion_tokens > 0
    assert not streaming or written[-1] == completion.text


def test_our_own_backend_says_what_it_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself it tries the server with a text that is no input of the task."""
    monkeypatch.setenv("OPENAI_API_KEY", "-")
    with serving() as url, pytest.raises(BackendError, match="chat=true, score=none"):
        asyncio.run(OpenAIBackend(MODEL, base_url=f"{url}/v1").generate(Request("r", Key(0, "io", ""))))


def test_a_body_of_100_mb_is_413_and_the_server_goes_on() -> None:
    """The client that sends all of it first reads the reply, too."""
    with serving() as url:
        host, port = url.removeprefix("http://").split(":")
        for length in (True, False):
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            headers = {"Content-Type": "application/json", **({"Content-Length": str(100 << 20)} if length else {})}
            parts = (b" " * (1 << 20) for _ in range(100))
            connection.request("POST", "/v1/chat/completions", parts, headers, encode_chunked=not length)
            reply = connection.getresponse()
            assert reply.status == 413
            assert json.loads(reply.read())["error"]["code"] == "body_too_large"
            connection.close()
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("POST", "/v1/chat/completions", json.dumps(chat()), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()


def test_a_search_ends_when_the_connection_is_closed() -> None:
    """Whether a stream has begun or nothing has been sent."""
    arrived = threading.Event()
    never: list[asyncio.Event] = []

    async def gate() -> None:
        never.append(asyncio.Event())
        arrived.set()
        try:
            await never[-1].wait()
        finally:
            cancelled.set()

    for stream in (False, True):
        cancelled = threading.Event()
        arrived.clear()
        service = service_of(agent(SlowTree(gate)))
        with serving(service) as url:
            host, port = url.removeprefix("http://").split(":")
            body = json.dumps(chat(stream=stream)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                assert arrived.wait(60)
            assert cancelled.wait(60)
        assert service.queue.running == 0


def test_two_hundred_clients_with_random_disconnects(capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer is that of its seed, and no task, thread, descriptor or place of the queue is left."""
    assert load_test(["--clients", "200", "--leaving", "0.4", "--requests", "5"]) == 0
    printed = capsys.readouterr().out
    assert " 0 wrong" in printed
    answered, left = map(int, re.search(r"(\d+) answered, (\d+) left", printed).groups())  # type: ignore[union-attr]
    assert answered > 50
    assert left > 50
    assert re.search(r"P99 \d+ ms", printed)


def test_many_threads_get_the_same_answer(expected: Any) -> None:
    """Equal requests at the same time do not disturb each other; limits of one are not those of another."""
    with serving(service_of(budget=Budget(calls=1000))) as url:
        host, port = url.removeprefix("http://").split(":")

        def ask(number: int) -> tuple[int, Any]:
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            body = chat(seed=SEED, **({"budget": {"calls": 2}} if number % 2 else {}))
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = json.loads(connection.getresponse().read())
            connection.close()
            return number % 2, reply["treeagent"]

        with ThreadPoolExecutor(16) as pool:
            for limited, outcome in pool.map(ask, range(32)):
                assert (outcome["ended"] == "calls") == bool(limited)
                assert limited or outcome["answer"] == expected.answer


@pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_follows_a_search_while_it_runs(tmp_path: Path) -> None:
    """New thoughts appear without a reload; the chosen thought stays chosen; the end stops the questions."""
    program = find()
    assert program is not None
    loops: list[asyncio.AbstractEventLoop] = []
    gates: list[asyncio.Event] = []

    async def gate() -> None:
        if not gates:
            loops.append(asyncio.get_running_loop())
            gates.append(asyncio.Event())
        count[0] += 1
        if count[0] == 4:
            paused.set()
            await gates[0].wait()

    count, paused = [0], threading.Event()
    service = service_of(agent(SlowTree(gate)))
    browser = Browser(program, tmp_path / "profile")
    try:
        with serving(service) as url, ThreadPoolExecutor(1) as pool:
            host, port = url.removeprefix("http://").split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=120)

            def ask() -> Any:
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps(chat()), {"Content-Type": "application/json"}
                )
                return json.loads(connection.getresponse().read())

            answer = pool.submit(ask)
            assert paused.wait(60)
            browser.visit(f"{url}/")
            href = browser.run("document.querySelector('td a').getAttribute('href')")
            browser.visit(url + href)
            [early] = browser.run("treeagent.shown()")
            browser.run("treeagent.choose(0, 1)")
            loops[0].call_soon_threadsafe(gates[0].set)
            answer.result(60)
            browser.wait(f"treeagent.shown()[0] > {early}")
            [late] = browser.run("treeagent.shown()")
            [run] = service.recent.newest_first
            pieces = sum(event.type in ("thought", "dropped") for event in run.events)
            assert late == pieces + 1
            assert browser.run("document.getElementById('details').dataset.thought") == "1"
            heading = browser.run("document.querySelector('.pane').innerText")
            assert heading.startswith(f"{MODEL}: r")
            assert "object" not in heading
            assert browser.errors == []
            connection.close()
    finally:
        browser.close()
