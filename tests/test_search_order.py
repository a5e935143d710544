"""Searches of one agent with an order: their requests say how many will follow, and their results stay the same."""

from __future__ import annotations

import asyncio

import pytest
from cli_tools import call
from synthetic import TreeBackend, essence, task

from treeagent import Agent, ConfigError, Request
from treeagent.runtime.search_order import SearchLengths
from treeagent.strategies.bfs import BFS

TREE = [[[4, 9], [12, 3]], [[20, 1], 7], [[2, [30, 8]], 6]]


def asked(backend: TreeBackend) -> list[tuple[str, float | None]]:
    """The seeds of the searches and what their generations say of those that follow, in order."""
    return [(str(one.key.seed), one.remaining) for one in backend.requests if isinstance(one, Request)]


def agent(backend: TreeBackend, order: str) -> Agent:
    return Agent(task(), BFS(b=3), backend=backend, order=order)


def solve_both(backend: TreeBackend, order: str) -> list[object]:
    """Two searches at once, which differ in their seeds."""
    one = agent(backend, order)

    async def run() -> list[object]:
        return [essence(result) for result in await asyncio.gather(one.asolve("r"), one.asolve("r", seed=1))]

    return asyncio.run(run())


def test_results_do_not_depend_on_the_order() -> None:
    """The same trees and answers, whoever goes first; without an order no request has a turn."""
    plain, ordered = TreeBackend(TREE, order=1), TreeBackend(TREE, order=1)
    assert solve_both(ordered, "shortest") == solve_both(plain, "arrival")
    assert {remaining for _, remaining in asked(plain)} == {None}


def test_a_search_that_has_asked_for_more_goes_first_while_no_length_is_known() -> None:
    """What it says of the requests that follow falls with each."""
    backend = TreeBackend(TREE, order=1)
    solve_both(backend, "shortest")
    for seed in ("0", "1"):
        own = [remaining for one, remaining in asked(backend) if one == seed and remaining is not None]
        assert len(own) > 2
        assert own == sorted(own, reverse=True)


def test_a_search_alone_has_no_turn() -> None:
    """Nobody waits for it, so that its rows need not be few."""
    backend = TreeBackend(TREE)
    agent(backend, "shortest").solve("r")
    assert {remaining for _, remaining in asked(backend)} == {None}


def test_lengths_are_learnt_from_searches_that_have_ended() -> None:
    """The mean of those that were longer; a search longer than all is near its end."""
    lengths = SearchLengths()
    assert lengths.remaining(7) < lengths.remaining(3)
    for total in (10, 20):
        lengths.learn(total)
    assert [lengths.remaining(made) for made in (0, 10, 19)] == [15, 10, 1]
    assert lengths.remaining(40) < lengths.remaining(30) < 0


def test_an_ended_search_teaches_the_others() -> None:
    """Later searches of the agent begin with what is left of its length."""
    backend = TreeBackend(TREE, order=1)
    one = agent(backend, "shortest")

    async def run() -> None:
        await one.asolve("r")
        backend.requests.clear()
        await asyncio.gather(one.asolve("r"), one.asolve("r", seed=1))

    asyncio.run(run())
    known = [remaining for _, remaining in asked(backend) if remaining is not None]
    assert known[0] > 0


def test_an_unknown_order_is_refused() -> None:
    """In one line that names both orders."""
    with pytest.raises(ConfigError, match="'shortest', got 'longest'"):
        agent(TreeBackend(TREE), "longest")
    result = call("eval", "--task", "game24", "--search", "bfs", "--limit", "1", "--order", "longest")
    assert result.exit_code == 2
    assert "'shortest', got 'longest'" in result.output
