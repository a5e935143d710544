"""An MCP server at an address, which may restart while a program runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from treeagent import ToolError

pytest.importorskip("mcp")

from treeagent.mcp import ToolServer


class ShopAtAddress(BaseHTTPRequestHandler):
    """A server of one tool, without the library; its sessions are of one start, and another start knows none."""

    started = "1"

    def do_POST(self) -> None:
        """Answer a message."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method, body = request.get("method"), None
        if "mcp-session-id" in self.headers and self.headers["mcp-session-id"] != self.started:
            return self._reply(404, None)
        if method == "initialize":
            body = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "shop", "version": "1"}}  # fmt: skip
        elif method == "tools/list":
            body = {"tools": [{"name": "start", "inputSchema": {"type": "object"}}]}
        elif method == "tools/call":
            body = {"content": [{"type": "text", "text": self.started}], "isError": False}
        answer = {"error": {"code": -32601, "message": "Method not found"}} if body is None else {"result": body}
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
def shop_at(port: int, started: str) -> Iterator[int]:
    """A start of the server; its port."""
    handler = type("Handler", (ShopAtAddress,), {"started": started})
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
