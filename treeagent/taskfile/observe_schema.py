"""The key ``observe``: what a task file says of the tool or environment that its steps act on."""

from __future__ import annotations

from functools import cached_property

from pydantic import Field

from ..mcp import ToolServer
from ..world import ObserveLimits
from .strict_model import Strict, Text

_DEFAULT = ObserveLimits()


class ObserveSpec(Strict):
    """Limits of one observation, how it becomes part of the state, and the MCP server that it may come from."""

    timeout: float = Field(default=_DEFAULT.timeout, gt=0, le=86400)
    """Seconds until an observation is ended and its step is dropped."""
    characters: int = Field(default=_DEFAULT.characters, ge=1, le=1_000_000)
    """Of an observation; what is longer is cut, with a note of how much."""
    state: str = "{{ state }}\n{{ observation }}"
    """Template for the state with the observation; ``state`` is the one after the step."""
    terminal: str = "false"
    """Jinja expression; a thought whose step is terminal is so in any case."""
    server: Text | list[Text] | None = None
    """Words of a command that starts an MCP server, or its address; None: the checker observes."""
    tool: str = ""
    """Template for the tool that a step calls; empty text: the checker observes the step, if it can."""
    arguments: str = "{}"
    """Template for its arguments, a JSON object."""

    @property
    def limits(self) -> ObserveLimits:
        """Time and length."""
        return ObserveLimits(self.timeout, self.characters)

    @cached_property
    def tool_server(self) -> ToolServer | None:
        """The server, shared by all searches. Raises ConfigError, and MissingExtraError."""
        return None if self.server is None else ToolServer(self.server)
