"""``treeagent serve`` without a socket: what it answers, what it refuses, and what it shows of its searches."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from serve_tools import JSON, MODEL, SlowTree, agent, chat, client_of, post, service_of, stream_data, until

from treeagent import Budget, ConfigError, PluginError, Task
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.server import recent_runs
from treeagent.server.agents import AgentMaker
from treeagent.server.app import COOKIE, make_app
from treeagent.server.protocol import BudgetFields
from treeagent.server.served_models import open_models

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("seed", [0, 1, 2, -5])
def test_an_answer_is_that_of_solve_for_the_seed(seed: int) -> None:
    """Answer, verdict, path, tokens and counts are those of the agent; the steps are those of its tree."""
    expected = agent(seed=seed).solve("r")
    reply = post(service_of(), CHAT, chat(seed=seed)).json()
    [choice] = reply["choices"]
    assert choice["message"]["content"] == expected.answer
    assert choice["finish_reason"] == "stop"
    assert reply["model"] == MODEL
    assert reply["treeagent"]["path"] == list(expected.path)
    assert reply["treeagent"]["counts"] == expected.to_json()["counts"]
    assert reply["usage"] == {
        "prompt_tokens": expected.usage.prompt_tokens,
        "completion_tokens": expected.usage.completion_tokens,
        "total_tokens": expected.usage.tokens,
    }
    steps = choice["message"]["reasoning_content"].splitlines()
    assert [step.strip() for step in steps] == [thought.text for thought in list(expected.tree)[1:]]


def test_the_seeds_of_these_tests_have_several_answers() -> None:
    """Else equal answers would show nothing."""
    assert len({agent(seed=seed).solve("r").answer for seed in range(8)}) > 2


def test_a_stream_brings_the_same_in_parts() -> None:
    """Role, steps, answer, reason of the end, usage where it is asked for, and the end mark."""
    service = service_of()
    whole = post(service, CHAT, chat(seed=4)).json()
    reply = post(service, CHAT, chat(seed=4, stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = stream_data(reply.text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert done == "[DONE]"
    assert deltas[0] == {"role": "assistant"}
    [expected] = whole["choices"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == expected["message"]["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == expected["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["treeagent"]["path"] == whole["treeagent"]["path"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1


def test_the_events_are_those_of_the_journal() -> None:
    """Each with its type; the options of the server's backends are not in them."""
    seen: list[Any] = []
    expected = agent(seed=3).solve("r", on_event=seen.append)
    text = post(service_of(), "/v1/events", {"model": MODEL, "input": "r", "seed": 3}).text
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    data = stream_data(text)
    assert kinds == [event.type for event in seen]
    assert [each["text"] for kind, each in zip(kinds, data, strict=True) if kind == "thought"] == [
        thought.text for thought in list(expected.tree)[1:]
    ]
    assert data[-1]["answer"] == expected.answer
    assert data[0]["settings"]["backend"]["options"] == {}


def test_the_last_message_of_the_user_is_the_input() -> None:
    """Parts of text are joined; a system prompt and earlier turns are not read."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": [{"type": "text", "text": "r"}]},
    ]
    reply = post(service_of(), CHAT, {"model": MODEL, "messages": messages, "temperature": 0.3, "max_tokens": 5})
    assert reply.json()["choices"][0]["message"]["content"] == agent().solve("r").answer


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        (b"{", 400, None, "not JSON"),
        (b"\xff", 400, None, "not JSON"),
        (b'{"model": NaN}', 400, None, "malformed"),
        (b"[" * 100_000, 400, None, "nested"),
        (b"[]", 400, None, "the body"),
        ({}, 400, "model", "model"),
        (chat(model="synthetic/bsf"), 404, "model", "the nearest is 'synthetic/bfs'"),
        (chat(model=""), 404, "model", "synthetic/bfs"),
        (chat(messages=[]), 400, "messages", "no message"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400, "messages", "only text"),
        (chat("4 5 6"), 400, "messages", "name of the root"),
        (chat(seed="1"), 400, "seed", "integer"),
        (chat(seed=2**63), 400, "seed", "less than"),
        (chat(n=2), 400, "n", "n must be 1"),
        (chat(logprobs=True), 400, "logprobs", "log-probabilities"),
        (chat(tools=[{}]), 400, "tools", "tools"),
        (chat(response_format={"type": "json_object"}), 400, "response_format", "form"),
        (chat(budget={"tokens": -1}), 400, "budget.tokens", "greater than or equal"),
        (chat(budget={"token": 1}), 400, "budget.token", "not permitted"),
        (chat(budget={"dollars": 1.0}), 400, None, "price"),
    ],
)
def test_a_wrong_request_is_one_clear_error(body: Any, status: int, param: str | None, said: str) -> None:
    """In OpenAI's form, with the field that is wrong, and never with a traceback; streams get the same reply."""
    bodies = [body] if isinstance(body, bytes) or not body else [body, {**body, "stream": True}]
    for each in bodies:
        reply = post(service_of(), CHAT, each)
        assert reply.status_code == status
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert said in error["message"]
        assert error["param"] == param
        assert "Traceback" not in reply.text


def test_paths_and_methods_that_do_not_exist_have_the_same_form() -> None:
    """404 and 405."""

    async def work() -> None:
        async with client_of(service_of()) as client:
            for reply, status in ((await client.get("/v2/x"), 404), (await client.get(CHAT), 405)):
                assert reply.status_code == status
                assert reply.json()["error"]["type"] in ("not_found_error", "invalid_request_error")

    asyncio.run(work())


def test_a_body_of_another_type_is_refused() -> None:
    """A form of a web page could be sent to a server on this machine without the browser asking first."""
    reply = post(service_of(), CHAT, chat(), headers={"content-type": "text/plain"})
    assert reply.status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BackendError("no power"), 502, "no power"),
        (RequestRefusedError("too long"), 200, ""),
        (ZeroDivisionError("1/0"), 500, "fault of the backend"),
    ],
)
def test_a_search_that_fails_says_why(error: Exception, status: int, said: str) -> None:
    """A refused request only ends its branch; the others are errors, which a stream ends with."""

    async def fail() -> None:
        raise error

    for stream in (False, True):
        service = service_of(agent(SlowTree(fail)))
        reply = post(service, CHAT, chat(stream=stream))
        assert "Traceback" not in reply.text
        assert reply.status_code == (200 if stream else status)
        if status != 200:
            failure = stream_data(reply.text)[-2] if stream else reply.json()
            assert said in failure["error"]["message"]
        assert service.queue.running == 0


def test_a_fault_of_the_server_shows_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to an exception of this project is a constant."""
    service = service_of()
    monkeypatch.setattr(service, "prepare", lambda order: 1 / 0)
    reply = post(service, CHAT, chat())
    assert reply.status_code == 500
    assert "division" not in reply.text
    assert reply.json()["error"]["code"] == "internal_error"
    assert service.queue.running == 0


def test_limits_of_a_request_end_its_search_and_those_of_the_server_are_the_highest() -> None:
    """A search that is cut short has its best attempt, and ``length`` as the reason."""
    service = service_of(budget=Budget(calls=3))
    for wanted, calls in ({"calls": 1}, 1), ({"calls": 99}, 3), ({}, 3):
        reply = post(service, CHAT, chat(budget=wanted)).json()
        assert reply["treeagent"]["usage"]["calls"] == calls
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["treeagent"]["ended"] == "calls"
    capped = BudgetFields(tokens=5, seconds=9.0).capped(Budget(tokens=7, seconds=2.0, nodes=4))
    assert capped == Budget(tokens=5, seconds=2.0, nodes=4)


def test_tokens_that_a_backend_does_not_report_are_unknown() -> None:
    """``usage`` is null then, not 0."""

    class Silent(SlowTree):
        def _reply(self, request: Any) -> Any:
            reply = super()._reply(request)
            return type(reply)(reply.completions, type(reply.usage)(1, None, None))

    assert post(service_of(agent(Silent())), CHAT, chat()).json()["usage"] is None


# The queue


def test_a_full_queue_is_429_and_waiting_requests_get_their_turn() -> None:
    """In the order in which they came."""
    expected = {seed: agent(seed=seed).solve("r").answer for seed in (1, 2)}

    async def work() -> None:
        gate = asyncio.Event()
        service = service_of(agent(SlowTree(gate.wait)), at_once=1, waiting=1)
        async with client_of(service) as client:
            first = asyncio.ensure_future(client.post(CHAT, json=chat(seed=1)))
            second = asyncio.ensure_future(client.post(CHAT, json=chat(seed=2)))
            await until(lambda: (service.queue.running, service.queue.waiting) == (1, 1))
            for stream in (False, True):
                refused = await client.post(CHAT, json=chat(stream=stream))
                assert refused.status_code == 429
                assert refused.headers["retry-after"] == "1"
                assert refused.json()["error"]["type"] == "rate_limit_error"
            gate.set()
            for seed, reply in enumerate(await asyncio.gather(first, second), 1):
                assert reply.json()["choices"][0]["message"]["content"] == expected[seed]
        assert (service.queue.running, service.queue.waiting) == (0, 0)

    asyncio.run(work())


async def leave(service: Any, body: dict[str, Any], left: asyncio.Event) -> list[dict[str, Any]]:
    """What the application sends to a client that leaves when ``left`` is set."""
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": CHAT, "query_string": b"", "http_version": "1.1", "scheme": "http",
        "headers": [(b"content-type", b"application/json")], "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    await make_app(service)(scope, receive, send)
    return sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_ends_when_its_client_leaves(stream: bool) -> None:
    """The backend's requests are cancelled, the place is free, and one that waits is forgotten as well."""

    async def work() -> None:
        gate, gone = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
        backend = SlowTree(gate.wait)
        service = service_of(agent(backend), at_once=1)
        clients = [asyncio.ensure_future(leave(service, chat(stream=stream), left)) for left in gone]
        await until(lambda: backend.running and service.queue.waiting)
        gone[1].set()
        await clients[1]
        assert (service.queue.running, service.queue.waiting) == (1, 0)
        gone[0].set()
        await clients[0]
        assert (service.queue.running, backend.running) == (0, 0)
        assert "treeagent_clients_left_total 2" in service.metrics.text(0, 0)
        gate.set()
        async with client_of(service) as client:
            assert (await client.post(CHAT, json=chat())).status_code == 200
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others

    asyncio.run(work())


def test_the_end_of_the_server_gives_best_attempts_and_refuses_what_waits() -> None:
    """Nothing that was searched is lost."""

    async def work() -> None:
        answered = 0
        gate = asyncio.Event()

        async def few() -> None:
            nonlocal answered
            answered += 1
            if answered > 3:
                await gate.wait()

        service = service_of(agent(SlowTree(few)), at_once=1)
        async with client_of(service) as client:
            running = asyncio.ensure_future(client.post(CHAT, json=chat()))
            await until(lambda: answered >= 4)
            waiting = asyncio.ensure_future(client.post(CHAT, json=chat()))
            await until(lambda: service.queue.waiting)
            service.close()
            reply = (await running).json()
            assert reply["choices"][0]["finish_reason"] == "length"
            assert reply["treeagent"]["ended"] == "interrupted"
            assert reply["treeagent"]["path"]
            assert (await waiting).status_code == 503
            assert (await client.post(CHAT, json=chat())).status_code == 503

    asyncio.run(work())


# Who may use it


def test_a_wrong_token_is_401() -> None:
    """On every path but ``/health``; the right one is let through, in a header or, for pages, in a cookie."""

    async def work() -> None:
        async with client_of(service_of(), token="open-sesame") as client:  # noqa: S106
            for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic open-sesame"}):
                for path in ("/v1/models", "/metrics", "/"):
                    reply = await client.get(path, headers=headers)
                    assert reply.status_code == 401
                    assert reply.json()["error"]["code"] == "invalid_api_key"
            assert (await client.get("/health")).status_code == 200
            right = {"authorization": "Bearer open-sesame"}
            assert (await client.post(CHAT, json=chat(), headers=right)).status_code == 200
            assert (await client.get("/?token=wrong")).status_code == 401
            assert (await client.get("/", headers={"cookie": f"path=1; {COOKIE}=; ;="})).status_code == 401
            entered = await client.get("/?token=open-sesame")
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            assert "httponly" in entered.headers["set-cookie"].lower()
            assert client.cookies[COOKIE] == "open-sesame"
            assert (await client.get("/")).status_code == 200
            assert (await client.post(CHAT, json=chat())).status_code == 401  # a cookie is for pages alone

    asyncio.run(work())


def test_another_sites_name_for_this_machine_is_refused() -> None:
    """A page could otherwise give its own name this machine's address and read the replies."""

    async def work() -> None:
        async with client_of(service_of(), hosts=["127.0.0.1", "[::1]"]) as client:
            assert (await client.get("/v1/models", headers={"host": "evil.example:8000"})).status_code == 403
            for host in ("127.0.0.1:8000", "[::1]:8000"):
                assert (await client.get("/v1/models", headers={"host": host})).status_code == 200

    asyncio.run(work())


@pytest.mark.parametrize("declared", [False, True])
def test_a_body_above_the_limit_is_413(declared: bool) -> None:
    """Whether or not its length is declared; the limit itself is allowed."""

    async def parts() -> Any:
        yield json.dumps(chat()).encode()
        for _ in range(100):
            yield b" " * 1000

    async def work() -> None:
        async with client_of(service_of(), most_bytes=1000) as client:
            content: Any = b" " * 1001 if declared else parts()
            reply = await client.post(CHAT, content=content, headers=JSON)
            assert reply.status_code == 413
            assert reply.json()["error"]["code"] == "body_too_large"
            fits = json.dumps(chat()).encode().ljust(1000)
            assert (await client.post(CHAT, content=fits, headers=JSON)).status_code == 200

    asyncio.run(work())


# What it shows


def test_models_are_listed_and_looked_up() -> None:
    """As OpenAI's list."""

    async def work() -> None:
        async with client_of(service_of(agent(), agent(search="dfs"))) as client:
            listed = (await client.get("/v1/models")).json()
            assert [model["id"] for model in listed["data"]] == [MODEL, "synthetic/dfs"]
            assert (await client.get(f"/v1/models/{MODEL}")).json()["id"] == MODEL
            assert (await client.get("/v1/models/none")).status_code == 404

    asyncio.run(work())


def test_metrics_count_what_happened() -> None:
    """Searches by model and end, tokens, calls, replies by status, and a histogram of seconds."""

    async def work() -> None:
        service = service_of()
        async with client_of(service) as client:
            first = (await client.post(CHAT, json=chat())).json()
            await client.post(CHAT, json=chat("?"))
            text = (await client.get("/metrics")).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert values[f'treeagent_searches_total{{model="{MODEL}",ended="finished"}}'] == "1"
        assert values['treeagent_http_replies_total{status="400"}'] == "1"
        assert values['treeagent_tokens_total{kind="prompt"}'] == str(first["usage"]["prompt_tokens"])
        assert values['treeagent_search_seconds_bucket{le="+Inf"}'] == values["treeagent_search_seconds_count"] == "1"
        assert values["treeagent_searches_running"] == "0"

    asyncio.run(work())


def test_pages_list_the_last_searches_and_show_each() -> None:
    """Older ones are forgotten, and the page of a search that has ended follows nothing."""
    texts = [thought.text for thought in agent(seed=2).solve("r").tree]

    async def work() -> httpx.Response:
        service = service_of(kept=2)
        async with client_of(service) as client:
            ids = [(await client.post(CHAT, json=chat(seed=seed))).json()["id"] for seed in range(3)]
            index = (await client.get("/")).text
            assert [f"/runs/{id}" in index for id in ids] == [False, True, True]
            assert (await client.get(f"/runs/{ids[0]}")).status_code == 404
            data = (await client.get(f"/runs/{ids[2]}/data?events=0")).json()
            assert data["ended"]
            assert data["tree"]["thoughts"]["text"] == texts
            return await client.get(f"/runs/{ids[2]}")

    page = asyncio.run(work())
    assert "connect-src" not in page.text
    assert 'id="tree-0"' in page.text


def test_a_large_search_is_shown_as_far_as_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not need the events that are not kept."""
    monkeypatch.setattr(recent_runs, "MOST_EVENTS", 5)

    async def work() -> None:
        async with client_of(service_of()) as client:
            id = (await client.post(CHAT, json=chat())).json()["id"]
            data = (await client.get(f"/runs/{id}/data")).json()
            assert (data["events"], data["ended"], data["tree"]["end"]) == (5, True, None)

    asyncio.run(work())


def test_a_server_that_keeps_nothing_shows_nothing() -> None:
    """``--keep 0``."""
    service = service_of(kept=0)
    post(service, CHAT, chat())
    assert service.recent.newest_first == []


def test_pairs_that_do_not_fit_are_left_out_unless_they_were_named() -> None:
    """And if none is left, the first reason is raised."""

    def make(task: str, search: str) -> Any:
        if search == "io":
            raise PluginError("search", "io", ValueError()) if task == "broken" else ConfigError("no prompt 'io'")
        return agent(search=search)

    models = open_models(["synthetic"], ["bfs", "io"], make, named=False)
    assert (models.names, models.left_out) == ([MODEL], {"synthetic/io": "no prompt 'io'"})
    with pytest.raises(ConfigError, match="no prompt"):
        open_models(["synthetic"], ["bfs", "io"], make, named=True)
    with pytest.raises(ConfigError, match="no prompt"):
        open_models(["synthetic"], ["io"], make, named=False)
    with pytest.raises(PluginError):
        open_models(["broken"], ["io"], make, named=False)


def test_all_agents_share_the_backends_that_are_opened_once() -> None:
    """Their options go to them alone; a search without an evaluator has no backend for one."""
    maker = AgentMaker(
        backend="helpers:Oracle", model=None, evaluator=None,
        evaluator_model="wrong", evaluator_backend="helpers:Oracle",
        options={"backend.fail_at": "90", "evaluator_backend.fail_at": "91", "evaluator.samples": "2"},
        load=Task.load, more={"seed": 5},
    )  # fmt: skip
    bfs, dfs = maker.agent("game24", "bfs"), maker.agent("game24", "dfs")
    assert bfs.backend is dfs.backend
    assert bfs.judging is dfs.judging
    assert bfs.backend is not bfs.judging
    assert [each.describe()["options"] for each in (bfs.backend, bfs.judging)] == [{"fail_at": "90"}, {"fail_at": "91"}]
    assert (bfs.settings["evaluator"]["samples"], bfs.seed) == (2, 5)
    assert bfs.task is dfs.task
    with pytest.raises(ConfigError, match="uses no evaluator"):
        maker.agent("game24", "io")
    plain = AgentMaker(
        backend="helpers:Oracle", model=None, evaluator=None, evaluator_model=None, evaluator_backend=None, options={},
        load=Task.load, more={},
    )  # fmt: skip
    io = plain.agent("game24", "io")
    assert io.judging is io.backend


def test_the_command_line_starts_without_the_servers_libraries() -> None:
    """They are imported by ``serve`` alone, once its options are right."""
    code = "import sys, treeagent.cli; print([n for n in ('starlette', 'uvicorn', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
