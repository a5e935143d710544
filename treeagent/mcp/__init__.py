"""Tools of MCP servers for the steps of a task (extra ``mcp``)."""

from __future__ import annotations

from .tool_server import ToolServer

__all__ = ["ToolServer"]
