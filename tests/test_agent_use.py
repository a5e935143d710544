"""One agent used several times, from loops, threads and streams."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest
from scripted_steps import TREE, Failing, Silent, alone_in_loop
from synthetic import TreeBackend, essence, solve, task

from treeagent import (
    Agent,
    Backend,
    BackendError,
    Budget,
    ConfigError,
    Event,
    InputError,
    PluginError,
    Result,
    TreeagentError,
)
from treeagent.strategies.bfs import BFS


def test_two_runs_of_one_agent_at_once_do_not_meet() -> None:
    """One agent, several inputs at once, in one loop and in threads: each result is that of a run alone."""
    backend = TreeBackend(TREE, order=3)
    agent = Agent(task(), BFS(b=2), backend=backend)
    alone = {name: essence(Agent(task(), BFS(b=2), backend=TreeBackend(TREE)).solve(name)) for name in ("r", "rb")}

    async def both() -> list[Result]:
        return list(await asyncio.gather(agent.asolve("r"), agent.asolve("rb"), agent.asolve("r")))

    assert [essence(result) for result in asyncio.run(both())] == [alone["r"], alone["rb"], alone["r"]]

    results: dict[int, Result] = {}
    free = Agent(task(), BFS(b=2), backend=TreeBackend(TREE))
    threads = [threading.Thread(target=lambda i=i: results.update({i: free.solve("rb")})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [essence(results[i]) for i in range(4)] == [alone["rb"]] * 4


def test_a_backend_outlives_the_runs_that_use_it() -> None:
    """A run closes nothing that another may be using."""
    closed = []

    class Closing(TreeBackend):
        async def aclose(self) -> None:
            closed.append(True)

    agent = Agent(task(), BFS(), backend=Closing(TREE))
    agent.solve("r")
    agent.solve("r")
    assert not closed


def test_solve_inside_a_loop_says_what_to_call() -> None:
    """The blocking call names the awaitable one."""
    agent = Agent(task(), BFS(), backend=TreeBackend(TREE))

    async def inside() -> None:
        agent.solve("r")

    with pytest.raises(TreeagentError, match="asolve"):
        asyncio.run(inside())


def test_an_error_in_a_handler_is_not_swallowed_and_leaves_nothing() -> None:
    """A bug in the user's own event handler surfaces as it is."""

    async def run() -> None:
        def on_event(event: Event) -> None:
            if event.type == "judged":
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await Agent(task(), BFS(), backend=TreeBackend(TREE)).asolve("r", on_event=on_event)
        assert alone_in_loop()

    asyncio.run(run())


def test_a_stream_gives_every_event_and_then_the_result() -> None:
    """The same events in the same order as a handler sees, then the result."""
    seen: list[Event] = []
    solve(TreeBackend(TREE), BFS(), on_event=seen.append)

    async def run() -> list[Any]:
        return [item async for item in Agent(task(), BFS(), backend=TreeBackend(TREE)).stream("r")]

    *events, result = asyncio.run(run())
    assert isinstance(result, Result)
    assert [event.type for event in events] == [event.type for event in seen]
    assert (events[0].type, events[-1].type) == ("run", "end")


@pytest.mark.parametrize("how", ["break", "cancel", "fail"])
def test_leaving_a_stream_stops_its_search(how: str) -> None:
    """Left early, cancelled while it waits, or failed: no task stays behind."""

    async def run() -> None:
        backend: Backend = {"break": TreeBackend, "cancel": Silent, "fail": Failing}[how](TREE)
        stream = Agent(task(), BFS(b=9), backend=backend).stream("r")

        async def read() -> None:
            async for item in stream:
                if how == "break" and isinstance(item, Event) and item.type == "judged":
                    break

        reading = asyncio.ensure_future(read())
        if how == "cancel":
            for _ in range(60):
                await asyncio.sleep(0)
            reading.cancel()
        try:
            await reading
        except (asyncio.CancelledError, BackendError):
            assert how != "break"
        await stream.aclose()  # type: ignore[attr-defined]
        assert alone_in_loop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": 3}, "task: expected a name"),
        ({"search": 3}, "search: expected a name or an object of a class derived from treeagent.Search, got 3"),
        ({"search": BFS}, "got the class BFS; make an object of it"),
        ({"backend": TreeBackend}, "got the class TreeBackend; make an object of it"),
        ({"evaluator": BFS()}, "evaluator: expected a name"),
        ({"budget": {"tokens": 5}}, "budget: expected a Budget"),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused(arguments: dict[str, Any], said: str) -> None:
    """By the constructor, which says what it expected."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        Agent(**{"task": task(), "search": BFS(), "backend": TreeBackend(TREE), **arguments})


@pytest.mark.parametrize("limits", [{"tokens": "20"}, {"calls": True}])
def test_a_limit_is_a_number(limits: dict[str, Any]) -> None:
    """Else a search would fail at its first request."""
    with pytest.raises(ConfigError, match="must be a number or None"):
        Budget(**limits)


@pytest.mark.parametrize("given", [None, 12, ["r"]])
def test_an_input_is_a_text(given: Any) -> None:
    """What is none is refused with an example."""
    with pytest.raises(InputError, match="an input is a text, such as"):
        Agent(task(), BFS(), backend=TreeBackend(TREE)).solve(given)


class Numbers(BFS):
    """A search that returns no thought."""

    async def run(self, explorer: Any) -> Any:
        """The answer to everything."""
        return 42


def test_a_search_that_returns_no_thought_is_told_so() -> None:
    """With what it returned and what it should."""
    with pytest.raises(PluginError, match="run returned int, expected Thought or None"):
        Agent(task(), Numbers(), backend=TreeBackend(TREE)).solve("r")
