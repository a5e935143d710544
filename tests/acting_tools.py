"""A task whose steps act on a world of the tests, and a tool that counts its calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from treeagent import (
    Agent,
    Checker,
    Event,
    Request,
    Result,
    ToolError,
    YamlTask,
)
from treeagent.backends.scripted import ScriptedBackend

TASK = """
name: acting
description: Act in a world of tests.
metadata: {version: 1}
input: {description: the word start, examples: [start]}
checker: CHECKER
depth: 5
thought:
  pattern: '(?P<text>(?:do|end|bad) .+)'
  legal: "not text.startswith('bad')"
  terminal: "text.startswith('end')"
observe:
  timeout: 0.1
  characters: 20
prompts:
  propose: "next of {{ state }}\\n"
  value: "value of {{ state }}\\n"
"""
EVER = "no event that comes"


class Tool(Checker):
    """Does what the step says; counts its calls."""

    calls: list[tuple[str, str]] = []  # noqa: RUF012  of all copies
    cancelled: list[str] = []  # noqa: RUF012

    async def observe(self, parent: str, text: str) -> str | None:
        self.calls.append((parent, text))
        what = (text.split() or [""])[-1]
        if text.startswith("end"):
            return None
        if what == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(text)
                raise
        if what == "crash":
            raise ZeroDivisionError("of the tool")
        if what == "refuse":
            raise ToolError("the tool is shut")
        if what == "number":
            return 7  # type: ignore[return-value]
        return "x" * 1000 if what == "flood" else f"saw {what}"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Tool.calls.clear()
    Tool.cancelled.clear()


def task(checker: str = "acting_tools:Tool", **replaced: str) -> YamlTask:
    """The task; ``**{old: new}`` replaces text of its file."""
    text = TASK.replace("CHECKER", checker)
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return YamlTask(text, allow_code=True)


def backend(first: str, then: str = "end it") -> ScriptedBackend:
    """Proposes the lines ``first`` at the root and ``then`` below it."""

    def answer(request: Request) -> str:
        if request.key.role == "value":
            return "sure"
        return first if request.prompt == "next of start\n" else then

    return ScriptedBackend(answer)


def run(first: str, then: str = "end it", search: Any = "bfs", **more: Any) -> tuple[Result, list[Event]]:
    """One search and its events."""
    events: list[Event] = []
    how = {name: more.pop(name) for name in ("journal",) if name in more}
    agent = Agent(
        more.pop("task", None) or task(), search, backend=more.pop("backend", None) or backend(first, then), **more
    )
    return agent.solve("start", on_event=events.append, **how), events


def states(result: Result) -> list[str]:
    return [thought.state for thought in result.tree]
