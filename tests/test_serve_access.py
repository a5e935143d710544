"""``treeagent serve`` without a socket: who may use it, and how large a request may be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from serve_tools import CHAT, JSON, chat, client_of, service_of

from treeagent.server.app import COOKIE


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
