"""A scripted backend, a server of tools, and clients, for tests of the Model Context Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

mcp = pytest.importorskip("mcp")

from treeagent.server.search_tools import SearchTools  # noqa: E402

RULES = """
- {match: "Possible next steps", text: "4 + 6 = 10 (left: 5 10 10)"}
- {match: "", text: "sure"}
"""
SHOP = """
import json, os, sys

tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("die", "hang", "price", "table")]
for line in sys.stdin:
    request = json.loads(line)
    method, parameters = request["method"], request.get("params", {})
    if "id" not in request or parameters.get("name") == "hang":
        continue
    result, error = None, None
    if method == "initialize":
        about = {"name": "shop", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
    elif method == "tools/list":
        page = parameters.get("cursor")
        result = {"tools": tools[2:]} if page else {"tools": tools[:2], "nextCursor": "2"}
    elif method != "tools/call":
        error = {"code": -32601, "message": "Method not found"}
    elif parameters["name"] == "die":
        os._exit(3)
    elif parameters["name"] == "table":
        result = {"content": [], "structuredContent": {"tea": 3}}
    else:
        item = parameters["arguments"].get("item", "")
        result = {"content": [{"type": "text", "text": f"{item} costs {len(item)}"}], "isError": item == "crash"}
    reply = {"error": error} if error else {"result": result}
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}), flush=True)
"""
"""A server without the library, so that it starts at once; its list of tools has two pages."""


def in_client(tools: SearchTools, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """What ``work`` returns with a client of these tools, in this process."""

    async def connected() -> Any:
        async with mcp.Client(tools.server()) as client:
            return await work(client)

    return asyncio.run(connected())


def called(tools: SearchTools, name: str, **arguments: Any) -> Any:
    """The result of one call."""
    return in_client(tools, lambda client: client.call_tool(name, arguments))
