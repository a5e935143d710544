"""Steps that act under limits: interruption, seconds, threads that hang, and steps side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from acting_tools import Tool, backend, run, states, task
from acting_tools import _fresh as _fresh  # noqa: PLC0414  the fixture

from treeagent import (
    Agent,
    Budget,
    Checker,
    Result,
    in_thread,
)
from treeagent.runtime.journal import read


class Interrupting(Tool):
    """Ends the run while it is asked."""

    stop: Callable[[], None]

    async def observe(self, parent: str, text: str) -> str | None:
        if "hang" in text:
            type(self).stop()
        return await super().observe(parent, text)


def test_an_interruption_ends_a_tool_and_loses_nothing_else(tmp_path: Path) -> None:
    """The observation under way is cancelled and not in the journal; those before it are."""
    path = tmp_path / "run.jsonl"
    slow = task("test_acting_limits:Interrupting", **{"timeout: 0.1": "timeout: 1000"})
    search = Agent(slow, "bfs", backend=backend("do this", "do hang")).run("start", journal=path)

    async def main() -> Result:
        Interrupting.stop = search.stop
        return await search.result()

    result = asyncio.run(main())
    assert result.ended == "interrupted"
    assert result.path == ("do this",)
    assert Tool.cancelled == ["do hang"]
    assert [event.data["text"] for event in read(path) if event.type == "observed"] == ["do this"]
    Tool.calls.clear()
    Interrupting.stop = lambda: None
    again = Agent(task("test_acting_limits:Interrupting"), "bfs", backend=backend("do this", "do hang"))
    asyncio.run(again.run("start", journal=path, resume=True).result())
    assert Tool.calls == [("start\ndo this\nsaw this", "do hang")]


def test_a_limit_of_seconds_ends_a_tool() -> None:
    """Long before the tool's own."""
    slow = task(**{"timeout: 0.1": "timeout: 1000"})
    result, _ = run("do this\ndo hang", task=slow, budget=Budget(seconds=0.2))
    assert result.ended == "seconds"
    assert Tool.cancelled == ["do hang"]


class InThread(Checker):
    """Blocks for ever, in a thread."""

    async def observe(self, parent: str, text: str) -> str | None:
        return await in_thread({"do block": threading.Event().wait, "do add": lambda: "added"}[text])


def test_a_thread_that_hangs_is_left_behind() -> None:
    """It drops its step like any other, and does not hold up the end of the loop."""
    result, _ = run("do block\ndo add", "no step", task=task("test_acting_limits:InThread"))
    assert (result.counts.failed, states(result)[1:]) == (1, ["start\ndo add\nadded"])


class Together(Checker):
    """Answers once three are asked."""

    waiting: list[asyncio.Future[None]] = []  # noqa: RUF012

    async def observe(self, parent: str, text: str) -> str | None:
        self.waiting.append(asyncio.get_running_loop().create_future())
        if len(self.waiting) % 3 == 0:
            for future in self.waiting:
                if not future.done():
                    future.set_result(None)
        await self.waiting[-1]
        return "together"


def test_the_steps_of_a_reply_are_acted_on_side_by_side() -> None:
    """One after the other they would all run into the time limit."""
    result, _ = run("do a\ndo b\ndo c", "no step", task=task("test_acting_limits:Together"))
    assert result.counts.failed == 0
    assert result.counts.thoughts == 3
