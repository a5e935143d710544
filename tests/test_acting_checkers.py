"""Keys, templates and checkers of tasks that act, and the contract that checkers keep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from acting_tools import TASK, Tool, run, states, task
from acting_tools import _fresh as _fresh  # noqa: PLC0414  the fixture

from treeagent import (
    Checker,
    ConfigError,
    ObserveLimits,
    World,
    YamlTask,
)
from treeagent.strategies.bfs import BFS
from treeagent.testing import CheckerContract, Solution


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timeout: 0.1", "timeout: 0", "observe.timeout"),
        ("timeout: 0.1", "time: 1", "observe.time: unknown key. Did you mean 'timeout'?"),
        ("characters: 20", 'state: "{{ observed }}"', "observe.state"),
        ("CHECKER", "gsm8k", "observe: nothing is observed: that needs a method 'observe' of the checker 'gsm8k'"),
        ("CHECKER", "test_acting_checkers:Blocking", "'observe' that is no coroutine; write 'async def observe'"),
    ],
)
def test_a_faulty_key_is_named_with_its_line(old: str, new: str, message: str) -> None:
    """Before anything runs."""
    text = TASK.replace(old, new).replace("CHECKER", "acting_tools:Tool")
    with pytest.raises(ConfigError) as caught:
        YamlTask(text, Path("acting.yaml"), allow_code=True)
    assert message in str(caught.value)
    assert str(caught.value).startswith("acting.yaml:")


class Blocking(Checker):
    """Forgets that the contract is asynchronous."""

    def observe(self, parent: str, text: str) -> str | None:  # type: ignore[override]
        return "at once"


def test_a_template_that_fails_on_an_observation_drops_the_step() -> None:
    """With the place in the file."""
    keys = '  characters: 20\n  state: "{{ 1 // (observation | length - 8) }}"'
    result, events = run("do this\ndo more more", task=task(**{"  characters: 20": keys}))
    [reason] = [
        event.data["reason"] for event in events if event.type == "dropped" and event.data["why"] == "unparsed"
    ][:1]
    assert "observe.state" in reason
    assert result.ended == "finished"


@dataclass(frozen=True)
class Rooms(World):
    """Two rooms with a door between them."""

    limits = ObserveLimits(timeout=5, characters=100)

    async def observe(self, parent: str, text: str) -> str | None:
        return "the other room" if text == "do walk" else None


def test_a_python_task_has_its_own_world() -> None:
    """The state ends with what is observed."""

    class Walk(YamlTask):
        def world(self, input: str) -> World:  # type: ignore[override]
            return Rooms()

    walk = Walk(TASK.replace("checker: CHECKER\n", "").replace("observe:\n  timeout: 0.1\n  characters: 20\n", ""))
    result, _ = run("do walk\ndo nothing", task=walk, search=BFS(b=2))
    assert states(result)[1:3] == ["start\ndo walk\nthe other room", "start\ndo nothing"]


class TestAnActingChecker(CheckerContract):
    """The contract, for a checker that observes."""

    solutions = (Solution("start", ("do this", "end it"), states=("start\ndo this\nsaw this", "")),)

    def checker(self) -> Checker:
        return Tool()


@pytest.mark.parametrize("fault", ["keeps going when it is cancelled", "returns a number"])
def test_a_checker_that_breaks_the_contract_of_acting_fails_it(fault: str) -> None:
    """One that cannot be ended, and one whose observation is no text."""

    class Stubborn(Checker):
        async def observe(self, parent: str, text: str) -> str | None:
            if fault == "returns a number":
                return 7  # type: ignore[return-value]
            for _ in range(3):
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), 2)
                except (asyncio.CancelledError, asyncio.TimeoutError):
                    continue
            return "at last"

    class Contract(TestAnActingChecker):
        def checker(self) -> Checker:
            return Stubborn()

    clause = "test_what_a_step_shows_is_a_text" if fault == "returns a number" else "test_an_observation_can_be_ended"
    with pytest.raises(AssertionError):
        getattr(Contract(), clause)()
