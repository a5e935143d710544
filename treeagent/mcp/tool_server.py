"""An MCP server whose tools the steps of a task call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import extras
from ..errors import ConfigError, ToolError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from .tool_session import ToolSession


class ToolServer:
    """An MCP server: a command that is started, or an address.

    It is started, or connected to, at the first call in an event loop, and ended with the loop. One that does not start
    is not tried again in the same loop. Where one ends or restarts, the calls that it has fail, and the next call
    starts it, or connects, again.

    ::

        shop = ToolServer(["python", "shop.py"])
        # inside a checker's observe:
        return await shop.call("price", {"item": text})
    """

    def __init__(
        self, at: str | Sequence[str], *, environment: Mapping[str, str] | None = None, seconds: float = 30.0
    ) -> None:
        """``at`` is the words of a command, or an address such as ``http://127.0.0.1:8000/mcp``.

        ``environment`` is added to what a command gets of this one (``PATH``, ``HOME`` and the like); ``seconds`` may
        pass until the server has answered for the first time. Raises ConfigError, and MissingExtraError.
        """
        extras.require("an MCP server", "mcp")
        words = [at] if isinstance(at, str) else list(at)
        if not words or not all(isinstance(word, str) and word for word in words):
            raise ConfigError(f"an MCP server is an address or the words of a command, not {at!r}")
        if isinstance(at, str) and not at.startswith(("http://", "https://")):
            raise ConfigError(f"{at!r} is no address of an MCP server; a command is a list of words")
        self._at: str | list[str] = at if isinstance(at, str) else words
        self._environment, self._seconds = dict(environment or {}), seconds
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, ToolSession] = WeakKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> ToolServer:
        """The same server: tasks are copied, and a connection cannot be."""
        return self

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> str:
        """The text that a tool returns; the JSON of its structured content where there is no text.

        Raises ToolError where the server does not start, ends, or lacks the tool, and where the tool reports an error.
        """
        session = self._session()
        return self._text(tool, await session.call(tool, dict(arguments or {})), session.name)

    def _session(self) -> ToolSession:
        """The session of this event loop; a new one where it has ended."""
        from .tool_session import ToolSession  # noqa: PLC0415  its library takes half a second

        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.ended:
            session = self._sessions[loop] = ToolSession(
                self._at, self._environment, self._seconds, again=session is not None
            )
        return session

    @staticmethod
    def _text(tool: str, result: CallToolResult, server: str) -> str:
        texts = [text for each in result.content if isinstance(text := getattr(each, "text", None), str)]
        text = "\n".join(texts)
        if result.is_error:
            raise ToolError(f"the tool {tool!r} of {server} reports an error: {text or 'it gives no reason'}")
        if not texts and result.structured_content is not None:
            return json.dumps(result.structured_content, ensure_ascii=False)
        return text
