"""The Model Context Protocol (extra ``mcp``): searches as tools, and tools for steps."""

from __future__ import annotations

from .tool_server import ToolServer

__all__ = ["ToolServer"]
