"""Bad days of early requests: nonsense hints, errors, backends that cannot cancel, Ctrl-C, resumed journals."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from early_tools import KeyedBackend, VirtualLoop, real, units
from synthetic import TreeBackend, essence, solve, task

from treeagent import (
    Agent,
    BackendError,
    Event,
    Explorer,
    OnText,
    Partial,
    Reply,
    Request,
    Result,
    ScoreRequest,
    Search,
    Thought,
    ranked,
)
from treeagent.runtime import early_figures
from treeagent.runtime.journal import read
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.mcts import MCTS

TREE = [[[1, 2, 3], [4, 5]], [[6, 7], [8, 9, 10]], 11]
DEEP = [[[9, 2, 30], [4, 5], 3], [[6, 7], [8, 10]], 11, 12, 13, 14]
"""A depth-first search takes the first step every time."""


def raising(below: list[Thought]) -> list[Thought]:
    """A function of a search with a bug."""
    raise ZeroDivisionError


NONSENSE: list[tuple[Any, Any]] = [
    ((), raising),
    ((), lambda below: None),
    ((), lambda below: [below, 3, None, "x"]),
    ((), lambda below: 10_000 * below),
    ((), lambda below: iter(int, 1)),
    (None, None),
    ([None, 7, "ra"], None),
    ([Thought(99, 0, "x", "x", "x", 1), Thought(-1, 0, "x", "x", "x", 1), Thought("x", 0, "x", "x", "x", 1)], None),  # type: ignore[arg-type]
    ((Thought(0, None, "", "r", "r", 0) for _ in iter(int, 1)), None),
    ((), 3),
]


class Hinting(Search):
    """Depth first without pruning, with hints that a test gives."""

    def __init__(self, thoughts: Any, after: Any) -> None:
        self.thoughts, self.after = thoughts, after

    async def run(self, explorer: Explorer) -> Thought | None:
        """Follow the best children; hint nonsense before each step, and twice."""
        stack = [explorer.root]
        while stack:
            explorer.likely(self.thoughts, after=self.after, role="no such role", n=-3)
            explorer.likely(self.thoughts, after=self.after)
            [children] = await explorer.grow([stack.pop()])
            explorer.likely(children, after=self.after)
            stack += [child for child in ranked(children)[::-1] if not child.terminal]
        return await explorer.finish([thought for thought in explorer.tree if thought.terminal])


@pytest.mark.parametrize("hint", NONSENSE, ids=range(len(NONSENSE)))
def test_hints_that_are_nonsense_harm_nothing(hint: tuple[Any, Any]) -> None:
    """Unknown thoughts, thousands, the same twice, no thoughts at all, endless ones, and a function that raises."""
    search = Hinting(*hint)
    expected = real(solve(KeyedBackend(TREE, 1), search))
    assert real(solve(KeyedBackend(TREE, 2), search, speculate=8)) == expected


class Deaf(KeyedBackend):
    """Goes on with a request when it is cancelled, like a server without such a call."""

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As the tree says, however often it is cancelled."""
        work = asyncio.ensure_future(super().stream(request, on_text))
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self.deaf = True
        return work.result()

    deaf = False


def alone() -> bool:
    """Whether this task is the only one."""
    return asyncio.all_tasks() == {asyncio.current_task()}


def alone_after(backend: Any, search: Search, **how: Any) -> Result:
    """The result of a search, after which no task is left."""

    async def run() -> Result:
        result = await Agent(task(), search, backend=backend, speculate=8, **how).asolve("r")
        assert alone()
        return result

    return asyncio.run(run())


@pytest.mark.parametrize("search", [DFS(threshold=0.0), BFS(b=2), MCTS(parallel=1, simulations=5)])
def test_a_backend_that_cannot_cancel_is_waited_for(search: Search) -> None:
    """Nothing is left running, and the result is the usual one."""
    backend = Deaf(TREE, 3)
    result = alone_after(backend, search)
    assert real(result) == real(solve(KeyedBackend(TREE, 1), search))
    assert backend.deaf or not (result.speculated and result.speculated.misses)


class Clocked(TreeBackend):
    """Needs a second of the loop's time for each word that it writes."""

    def __init__(self, fails: str = "") -> None:
        super().__init__(DEEP)
        self.fails = fails
        self.running = 0
        self.raised: list[Request | ScoreRequest] = []

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """The tree's answer, word by word; an error for the prompt ``fails``."""
        self.requests.append(request)
        reply = self._reply(request)
        self.running += 1
        try:
            text = ""
            for line in reply.completions[0].text.splitlines(keepends=True):
                await units(len(line.split()))
                text += line
                on_text(Partial(0, text, len(text.split())))
                if self.fails and request.prompt == self.fails:
                    raise BackendError(f"no answer to {request.prompt!r}")
            return reply
        finally:
            self.running -= 1

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """Note it."""
        self.raised.append(request)


def clocked(backend: Clocked, search: Search, speculate: int, **how: Any) -> tuple[Result, float]:
    """The result, and the seconds that it took by the loop's clock."""
    loop = VirtualLoop()
    try:
        agent = Agent(task(), search, backend=backend, speculate=speculate)
        return loop.run_until_complete(agent.asolve("r", **how)), loop.time()
    finally:
        loop.close()


def test_pieces_are_judged_and_expanded_while_their_list_is_written() -> None:
    """The search is faster by the clock, a hit has its priority raised, and the result is the same."""
    plain, seconds = clocked(Clocked(), DFS(threshold=0.0), 0)
    backend = Clocked()
    early, fewer = clocked(backend, DFS(threshold=0.0), 8)
    assert real(early) == real(plain)
    assert fewer < 0.8 * seconds
    assert early.speculated is not None
    assert {"judgement", "piece"} <= set(early.speculated.hits)
    assert len(backend.raised) == sum(early.speculated.hits.values())
    assert len(backend.requests) == early.usage.calls + early.speculated.usage.calls
    assert early.speculated.errors == 0


def test_a_half_piece_is_never_read() -> None:
    """A line that is still being written is no step yet."""

    class Halves(Clocked):
        async def stream(self, request: Request, on_text: OnText) -> Reply:
            self.requests.append(request)
            reply = self._reply(request)
            for end in range(len(reply.completions[0].text)):
                await units(1)
                on_text(Partial(0, reply.completions[0].text[:end]))
            return reply

    backend = Halves()
    early, _ = clocked(backend, DFS(threshold=0.0), 8)
    asked = {request.prompt.split()[-1] for request in backend.requests if request.prompt.startswith("value")}
    assert "r" not in asked
    assert {name for name in asked if len(name) == 2} <= {"ra", "rb", "rc", "rd", "re", "rf"}
    assert early.counts.unparsed == 0
    plain, _ = clocked(Halves(), DFS(threshold=0.0), 0)
    assert real(early) == real(plain)


def test_an_error_of_a_guess_is_raised_only_where_the_search_asks_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess about a branch that is never taken may fail; the same failure on the way of the search is an error."""
    monkeypatch.setitem(early_figures.PRIORS, "sibling", 0.5)  # or that branch is no guess
    plain, _ = clocked(Clocked(), DFS(threshold=0.0), 0)
    result, _ = clocked(Clocked(fails="children of rb\n"), DFS(threshold=0.0), 8)
    assert result.speculated is not None
    assert result.speculated.errors == 1
    assert real(result) == real(plain)
    messages = []
    for speculate in (0, 8):
        with pytest.raises(BackendError, match="no answer") as caught:
            clocked(Clocked(fails="children of ra\n"), DFS(threshold=0.0), speculate)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_a_stop_while_guesses_run_leaves_nothing_running(after: int) -> None:
    """Ctrl-C ends the search and all that it has asked for early."""
    backend, loop = Clocked(), VirtualLoop()

    async def run() -> Result:
        started = Agent(task(), DFS(threshold=0.0), backend=backend, speculate=8).run("r")
        asyncio.get_running_loop().call_later(after, started.stop)
        result = await started.result()
        assert alone()
        return result

    try:
        result = loop.run_until_complete(run())
    finally:
        loop.close()
    assert result.ended in ("interrupted", "finished")
    assert backend.running == 0


@pytest.mark.parametrize("search", [DFS(threshold=0.0), BFS(b=2), MCTS(parallel=2, simulations=5)])
def test_a_journal_with_hits_and_misses_is_resumed_from_any_line(search: Search, tmp_path: Path) -> None:
    """No journalled request is asked again, early or not, and the end is that of an undisturbed run."""
    path = tmp_path / "run.jsonl"
    whole = solve(KeyedBackend(TREE, 1), search, journal=path, speculate=8)
    events = read(path)
    early = [event for event in events if event.type == "early"]
    assert {event.data["hit"] for event in early} >= {True}
    assert events[0].data["settings"]["speculate"] == 8
    lines = path.read_text().splitlines(keepends=True)
    for end in range(1, len(lines)):
        cut = tmp_path / f"{end}.jsonl"
        cut.write_text("".join(lines[:end]))
        known = {json.loads(line)["id"] for line in lines[:end] if json.loads(line)["type"] in ("completion", "scores")}
        backend = KeyedBackend(TREE, 2)
        agent = Agent(task(), search, backend=backend, speculate=8)
        result = asyncio.run(agent.run("r", journal=cut, resume=True).result())
        assert not known & {request.id for request in backend.requests}
        assert real(result) == real(whole)


def test_a_finished_run_is_resumed_without_a_request(tmp_path: Path) -> None:
    """Nothing is sent early while the journal answers all that the search asks for."""
    path = tmp_path / "run.jsonl"
    whole = solve(KeyedBackend(TREE, 1), DFS(threshold=0.0), journal=path, speculate=8)
    backend = KeyedBackend(TREE, 2)
    again = Agent(task(), DFS(threshold=0.0), backend=backend, speculate=8).run("r", journal=path, resume=True)
    assert real(asyncio.run(again.result())) == real(whole)
    assert backend.requests == []


def test_the_events_of_early_requests_add_up(tmp_path: Path) -> None:
    """The journal has one event for each early request that ran; the result has their sums."""
    events: list[Event] = []
    result, _ = clocked(Clocked(), BFS(b=2), 8, on_event=events.append)
    early = [event.data for event in events if event.type == "early"]
    assert result.speculated is not None
    assert sum(data["hit"] for data in early) == sum(result.speculated.hits.values())
    assert (
        sum(not data["hit"] for data in early)
        == sum(result.speculated.misses.values())
        == result.speculated.usage.calls
    )
    assert result.to_json()["speculated"]["hits"] == result.speculated.hits
    assert essence(result)["usage"] == essence(clocked(Clocked(), BFS(b=2), 0)[0])["usage"]
