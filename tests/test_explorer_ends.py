"""How a run ends: by a budget, a failure, a cancellation or a stop; nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted_steps import TREE, Failing, Silent, alone_in_loop
from synthetic import CheckedTask, TreeBackend, named, solve, task

from treeagent import (
    Agent,
    BackendError,
    Budget,
    Checker,
    ConfigError,
    Event,
    Reply,
    Request,
    Result,
    Search,
)
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS


def test_a_budget_that_ends_in_the_middle_keeps_what_was_paid_for() -> None:
    """Every reply that was paid for is in the tree, and the best attempt comes back."""
    for calls in range(1, 12):
        backend = TreeBackend(TREE)
        result = solve(backend, BFS(b=9), budget=Budget(calls=calls))
        asked = [request.prompt.split() for request in backend.requests]
        assert (result.usage.calls, len(asked)) == (calls, calls)
        assert result.ended == ("calls" if calls < 15 else "finished")
        states = {thought.state for thought in result.tree}
        expanded = {words[-1] for words in asked if words[0] == "children"}
        assert states == {name for name in named(TREE) if name == "r" or name[:-1] in expanded}
        judged = {words[-1] for words in asked if words[0] == "value"}
        assert judged == {thought.state for thought in result.tree if thought.judgement}
        assert result.path


def test_a_budget_of_nothing_is_an_ordinary_end() -> None:
    """No request, no tree, no answer, no error."""
    for budget in (Budget(calls=0), Budget(tokens=0), Budget(nodes=0), Budget(seconds=0)):
        backend = TreeBackend(TREE)
        result = solve(backend, BFS(), budget=budget)
        assert (result.answer, result.path, len(result.tree)) == (None, (), 1)
        assert budget.nodes == 0 or not backend.requests
        assert result.ended in ("calls", "tokens", "nodes", "seconds")


def test_a_short_budget_shortens_completions() -> None:
    """Where less is left than a role's ``max_tokens``, the last request gets what is left."""
    backend = TreeBackend(TREE)
    solve(backend, BFS(), budget=Budget(tokens=150), task=task())
    [first, *_] = backend.requests
    assert isinstance(first, Request)
    assert first.sampling.max_tokens == 150 - 64 - len(first.prompt)


def test_a_limit_in_dollars_without_a_price_is_refused_at_once() -> None:
    """The agent does not begin what it could not keep to."""
    with pytest.raises(ConfigError, match="price"):
        Agent(task(), BFS(), backend=TreeBackend(TREE), budget=Budget(dollars=1))


def test_an_answer_that_nobody_wrote_is_no_answer() -> None:
    """A verified path whose answer there was no budget to write is shown as the best attempt, and is not solved."""

    class Right(Checker):
        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return "rc end" in (answer or "".join(steps))

    checked = CheckedTask(Right())
    result = solve(TreeBackend(TREE), BFS(), task=checked, budget=Budget(calls=2))
    assert (result.answer, result.solved, result.ended, result.path) == (None, False, "calls", ("rc end",))


def test_a_template_spells_the_answer_when_the_budget_is_gone() -> None:
    """Where no prompt writes the answer nothing has to be paid for it, and the answer itself is what is verified."""

    class Right(Checker):
        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return answer == "rc end"

    free = CheckedTask(Right(), **{'  answer: "answer of {{ state }}\\n"\n': ""})
    result = solve(TreeBackend(TREE), BFS(), task=free, budget=Budget(calls=2))
    assert (result.answer, result.solved, result.ended) == ("rc end", True, "calls")


@pytest.mark.parametrize("search", [BFS(b=9), DFS(threshold=0), CoTSC(k=8)])
@pytest.mark.parametrize("order", [None, 1, 2])
def test_a_failing_backend_gives_an_error_with_the_best_attempt(search: Search, order: int | None) -> None:
    """BackendError carries a result; nothing is left running, and the failed call is on the bill."""

    async def run() -> None:
        backend = Failing(TREE, order=order)
        with pytest.raises(BackendError, match="on fire") as caught:
            await Agent(task(), search, backend=backend).asolve("r")
        result = caught.value.result
        assert result is not None
        assert (result.ended, result.seed) == ("failed", 0)
        assert result.usage.calls == len(backend.requests)
        assert alone_in_loop()

    asyncio.run(run())


@pytest.mark.parametrize("search", [BFS(b=9), DFS(threshold=0), CoTSC(k=8)])
def test_a_backend_that_never_answers_ends_by_the_clock(search: Search) -> None:
    """The seconds run out ordinarily: what has been found comes back, and no task is left."""

    async def run() -> Result:
        result = await Agent(task(), search, backend=Silent(TREE), budget=Budget(seconds=0.05)).asolve("r")
        assert alone_in_loop()
        return result

    result = asyncio.run(run())
    assert result.ended == "seconds"
    assert len(result.tree) == 4
    assert result.seconds < 5


@pytest.mark.parametrize("answers", range(12))
def test_nothing_remains_of_a_cancelled_run(answers: int) -> None:
    """Cancelled from outside at any request, the run passes the cancellation on and no task stays."""

    class Stuck(Silent):
        async def generate(self, request: Request) -> Reply:
            if len(self.requests) >= self.answers:
                loop.call_soon(running.cancel)
            return await super().generate(request)

    backend = Stuck(TREE)
    backend.answers = answers

    async def run() -> None:
        nonlocal loop, running
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(Agent(task(), BFS(b=9), backend=backend).asolve("r"))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert alone_in_loop()

    loop: Any = None
    running: Any = None
    asyncio.run(run())


@pytest.mark.parametrize("early", [True, False])
def test_a_run_can_be_stopped(early: bool) -> None:
    """Stopping is an ordinary end, before the run has begun and in its midst; the first reason given counts."""

    async def run() -> Result:
        def on_event(event: Event) -> None:
            if not early and event.type == "judged":
                started.stop("interrupted")
                started.stop("seconds")

        started = Agent(task(), BFS(b=9), backend=TreeBackend(TREE)).run("r", on_event=on_event)
        if early:
            started.stop()
        result = await started.result()
        assert alone_in_loop()
        return result

    result = asyncio.run(run())
    assert result.ended == "interrupted"
    assert (len(result.tree) == 1) is early


def test_a_run_runs_once() -> None:
    """A second ``result()`` would mix two searches in one tree."""

    async def run() -> None:
        started = Agent(task(), BFS(), backend=TreeBackend(TREE)).run("r")
        await started.result()
        await started.result()

    with pytest.raises(RuntimeError, match="once"):
        asyncio.run(run())
