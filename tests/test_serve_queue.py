"""``treeagent serve`` without a socket: places, clients that wait or leave, and the end of the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from serve_tools import CHAT, SlowTree, agent, chat, client_of, service_of, until

from treeagent.server.app import make_app


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
