"""The world of a task file: its checker's tool or environment, or an MCP server, and the templates of ``observe``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..checker import Checker
from ..errors import ToolError
from ..mcp import ToolServer
from ..proposed_step import ProposedStep
from ..thought import Thought
from ..world import ObserveLimits, World
from . import templates
from .key_lines import KeyLines
from .observe_schema import ObserveSpec


@dataclass(frozen=True)
class CheckedWorld(World):
    """Observes through the server that the file names, else through the checker."""

    spec: ObserveSpec
    checker: Checker
    fields: Mapping[str, Any]
    """Fields of templates that no thought changes."""
    keys: KeyLines

    @classmethod
    def of(cls, spec: ObserveSpec, checker: Checker, fields: Mapping[str, Any], keys: KeyLines) -> CheckedWorld | None:
        """None where neither the checker nor a server observes anything."""
        return cls(spec, checker, fields, keys) if checker.observes or spec.server is not None else None

    @property
    def limits(self) -> ObserveLimits:  # type: ignore[override]  # as the file says
        """``observe.timeout`` and ``observe.characters``."""
        return self.spec.limits

    async def observe(self, parent: str, text: str) -> str | None:
        """See :meth:`treeagent.Checker.observe`. Raises ToolError where the tool cannot be called."""
        server = self.spec.tool_server
        if server is not None and (tool := self._rendered("tool", parent, text).strip()):
            return await self._call(server, tool, parent, text)
        return await self.checker.observe(parent, text) if self.checker.observes else None

    async def _call(self, server: ToolServer, tool: str, parent: str, text: str) -> str:
        written = self._rendered("arguments", parent, text)
        try:
            arguments = json.loads(written)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise ToolError(str(self.keys.problem(("observe", "arguments"), f"no JSON object: {written[:200]!r}")))
        return await server.call(tool, arguments)

    def _rendered(self, place: str, parent: str, text: str) -> str:
        """A template of the key, for a step. Raises ToolError."""
        try:
            return templates.render(getattr(self.spec, place), {**self.fields, "parent": parent, "text": text})
        except templates.FAULTS as fault:
            problem = self.keys.problem(("observe", place), templates.describe(fault))
            raise ToolError(str(problem)) from fault

    def read(
        self, step: ProposedStep, input: str, parent: Thought, steps: Sequence[str], observation: str
    ) -> ProposedStep:
        """With ``observe.state`` and ``observe.terminal``; unparsed where these or the checker cannot take it."""
        fields: dict[str, Any] = {"input": input, "text": step.text, "parent": parent.state, "state": step.state}
        fields |= {"depth": parent.depth + 1, "steps": [*steps, step.text], **self.fields, "observation": observation}
        place = "state"
        try:
            fields["state"] = templates.render(self.spec.state, fields)
            place = "terminal"
            terminal = step.terminal or templates.evaluate(self.spec.terminal, fields)
        except templates.FAULTS as fault:
            problem = self.keys.problem(("observe", place), templates.describe(fault))
            return replace(step, fault="unparsed", reason=str(problem))
        try:
            key = self.checker.key(fields["state"])
        except (ValueError, TypeError, ArithmeticError, LookupError):  # the checker cannot read the state
            return replace(step, fault="unparsed", reason="the checker cannot read the state with the observation")
        return replace(step, state=fields["state"], key=key, terminal=terminal)
