"""An MCP server at an address, which may restart while a program runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from treeagent import ToolError

pytest.importorskip("mcp")

from treeagent.mcp import ToolServer


class ShopAtAddress(BaseHTTPRequestHandler):
    """A server of one tool, without the library; its sessions are of one start, and another start knows none."""

    started = "1"
    opened: ClassVar[list[str]] = []
    """A word for each session."""
    unknown: Any = (404, None)
    """Status and body for a session that the server does not know."""
    failure: Any = None
    """Error of every call, in place of a result."""

    def do_POST(self) -> None:
        """Answer a message."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, body = request.get("method"), None
        if "mcp-session-id" in self.headers and self.headers["mcp-session-id"] != self.started:
            return self._reply(*self.unknown)
        if method == "initialize":
            self.opened.append(self.started)
            body = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "shop", "version": "1"}}  # fmt: skip
        elif method == "tools/list":
            body = {"tools": [{"name": "start", "inputSchema": {"type": "object"}}]}
        elif method == "tools/call":
            body = {"content": [{"type": "text", "text": self.started}], "isError": False}
        error = self.failure if method == "tools/call" else None
        if body is None:
            error = {"code": -32601, "message": "Method not found"}
        answer = {"result": body} if error is None else {"error": error}
        return self._reply(200, {"jsonrpc": "2.0", "id": request["id"], **answer} if "id" in request else None)

    def do_GET(self) -> None:
        """There is no stream of events."""
        self._reply(405, None)

    def do_DELETE(self) -> None:
        """Sessions are kept."""
        self._reply(405, None)

    def _reply(self, status: int, body: dict[str, Any] | None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status if body is not None or status != 200 else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("mcp-session-id", self.started)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def shop_at(port: int, started: str, **more: Any) -> Iterator[int]:
    """A start of the server; its port."""
    handler = type("Handler", (ShopAtAddress,), {"started": started, **more})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_server_at_an_address_that_restarts_is_connected_to_again() -> None:
    """The call that meets the old session fails, as do those while it is away; the calls after them do not."""

    async def work() -> list[str]:
        with shop_at(0, "1") as port:
            shop = ToolServer(f"http://127.0.0.1:{port}/mcp")
            results = [await shop.call("start")]
        with shop_at(port, "2"):
            with pytest.raises(ToolError, match="Session terminated"):
                await shop.call("start")
            results += [await shop.call("start")]
        for _ in range(3):
            with pytest.raises(ToolError):
                await shop.call("start")
        with shop_at(port, "3"):
            return [*results, await shop.call("start")]

    assert asyncio.run(work()) == ["1", "2", "3"]


NO_SESSION = {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "Session not found"}}


@pytest.mark.parametrize("unknown", [(404, None), (400, None), (500, None), (404, NO_SESSION)])
def test_an_unknown_session_leads_to_a_new_one_however_the_server_says_so(unknown: Any) -> None:
    """By a status alone, or by an error of the protocol; the next call has a new session."""

    async def work() -> str:
        with shop_at(0, "1") as port:
            shop = ToolServer(f"http://127.0.0.1:{port}/mcp")
            assert await shop.call("start") == "1"
        with shop_at(port, "2", unknown=unknown):
            with pytest.raises(ToolError):
                await shop.call("start")
            return await shop.call("start")

    assert asyncio.run(work()) == "2"


@pytest.mark.parametrize("code", [-32602, -32603, -32042, 17])
def test_an_error_of_a_call_keeps_the_session(code: int) -> None:
    """Arguments that are refused, a fault within the tool, and codes of the server's own: no new session for them."""
    opened: list[str] = []

    async def work() -> None:
        with shop_at(0, "1", opened=opened, failure={"code": code, "message": "not today"}) as port:
            shop = ToolServer(f"http://127.0.0.1:{port}/mcp")
            for _ in range(3):
                with pytest.raises(ToolError, match="not today"):
                    await shop.call("start")

    asyncio.run(work())
    assert opened == ["1"]
