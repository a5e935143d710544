"""``treeagent serve`` without a socket: what it answers, and the errors of requests and searches."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from serve_tools import CHAT, MODEL, SlowTree, agent, chat, client_of, post, service_of, stream_data

from treeagent import Budget
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.server.protocol import BudgetFields, public


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


def test_no_options_of_any_backend_leave_the_server() -> None:
    """Those of the evaluator's and of further models may hold addresses and names of keys too."""
    told = {"name": "openai", "model": "m", "options": {"base_url": "http://inside"}}
    settings = {"backend": told, "evaluator_model": told, "models": {"far": told}, "legality": True}
    for kind in ("run", "end"):
        assert "inside" not in json.dumps(shown := public(kind, {"settings": settings, "seed": 3}))
        assert shown["settings"]["models"] == {"far": {**told, "options": {}}}
    assert public("run", {"settings": {"evaluator_model": "m"}}) == {"settings": {"evaluator_model": "m"}}


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
        (chat(budget={"token": 1}), 400, "budget.token", "Did you mean 'tokens'?"),
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
