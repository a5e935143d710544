"""A connection to an MCP server, for one event loop."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from typing import Any, TextIO

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolResult,
)

from .. import aio
from ..errors import ToolError

_PAGES = 100
"""Of the list of tools; a server that has more may be one that never ends."""

_OF_SESSIONS = (CONNECTION_CLOSED, INVALID_REQUEST, PARSE_ERROR, REQUEST_TIMEOUT)
"""Codes of a lost connection, of answers that are no JSON, and of a session that the server does not know.

Libraries answer an unknown session with INVALID_REQUEST, or with the number of REQUEST_TIMEOUT.
"""
_BAD_STATUS = (INTERNAL_ERROR, "Server returned an error response")
"""What the library makes of an HTTP status without an error of the protocol."""

logging.getLogger("mcp").addHandler(logging.NullHandler())  # what a server does wrong is in our errors


class ToolSession:
    """A connection, held by a task of its own: the library wants the task that has opened it to close it."""

    def __init__(self, at: str | list[str], environment: Mapping[str, str], seconds: float, *, again: bool) -> None:
        """Begins to connect; ``seconds`` may pass until the server has answered for the first time.

        ``again``: the server has answered before, so that it is worth trying once more where it does not start.
        """
        loop = asyncio.get_running_loop()
        self._at, self._environment, self._seconds, self._again = at, environment, seconds, again
        self.name = f"the MCP server {at if isinstance(at, str) else ' '.join(at)[:80]!r}"
        """For messages."""
        self._tools: frozenset[str] = frozenset()
        self._started: asyncio.Future[Client] = loop.create_future()
        self._lost = asyncio.Event()
        self._stale = False
        self._calls = 0
        self._holding = asyncio.ensure_future(self._hold())
        self._timer = loop.call_later(seconds, self._give_up)

    @property
    def ended(self) -> bool:
        """Whether the next call needs another session."""
        return self._stale or self._lost.is_set()

    async def call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """What a tool returns. Raises ToolError."""
        client = await asyncio.shield(self._started)
        if tool not in self._tools:
            raise ToolError(f"{self.name} has no tool {tool!r}; it has: {', '.join(sorted(self._tools)) or 'none'}")
        calling = asyncio.ensure_future(client.call_tool(tool, arguments))
        lost = asyncio.ensure_future(self._lost.wait())
        self._calls += 1
        try:
            await asyncio.wait({calling, lost}, return_when=asyncio.FIRST_COMPLETED)
            if calling.done():
                return calling.result()
        except Exception as error:
            self._stale |= self._doubts(error)
            raise ToolError(f"the tool {tool!r} of {self.name} failed: {_reason(error)}") from error
        finally:
            await aio.cancel([calling, lost])
            self._calls -= 1
            if self._stale and not self._calls:
                self._lost.set()
        raise ToolError(f"the tool {tool!r} of {self.name} failed: the connection is lost")

    def _doubts(self, error: Exception) -> bool:
        """Whether a failure of a call may be one of the session, rather than the server's answer to this call.

        A server at an address that has restarted knows no old session, and says so in one of several ways.
        """
        if isinstance(error, MCPError):
            known = error.code in _OF_SESSIONS or (error.code, error.message) == _BAD_STATUS
            return known if isinstance(self._at, str) else error.code == CONNECTION_CLOSED
        # the library raises RuntimeError and ValueError for results that are not as the tool declares them
        return isinstance(self._at, str) and not isinstance(error, RuntimeError | ValueError)

    async def _hold(self) -> None:
        """Open the connection, keep it until it is lost or the event loop ends, and close it."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with Client(self._transport(log)) as client:
                    self._tools = await _tools(client)
                    self._started.set_result(client)
                    await self._lost.wait()
            except asyncio.CancelledError:
                self._fail(f"it did not answer within {self._seconds:g} s", log)
                raise
            except Exception as error:  # noqa: BLE001  as in call
                self._fail(_reason(error), log)
            finally:
                self._timer.cancel()
                if self._started.exception() is None:
                    self._lost.set()

    def _transport(self, log: TextIO) -> Any:
        if isinstance(self._at, str):
            return self._at
        command, *words = self._at
        return stdio_client(StdioServerParameters(command=command, args=words, env=dict(self._environment)), log)

    def _give_up(self) -> None:
        if not self._started.done():
            self._holding.cancel()

    def _fail(self, reason: str, log: TextIO) -> None:
        """Tell all calls that the server has not started, with the last line that it wrote to standard error."""
        if self._started.done():
            return
        log.seek(0)
        lines = log.read()[-10_000:].split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        said = f"; its last line: {last[:200]}" if last else ""
        self._stale = self._again
        self._started.set_exception(ToolError(f"{self.name} did not start: {reason}{said}"))


async def _tools(client: Client) -> frozenset[str]:
    """The names of all tools of a server."""
    names: set[str] = set()
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        names |= {tool.name for tool in page.tools}
        if (cursor := page.next_cursor) is None:
            break
    return frozenset(names)


def _reason(error: BaseException) -> str:
    """One line of an error, of the first one of a group."""
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    text = error.message if isinstance(error, MCPError) else getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:300] or type(error).__name__
