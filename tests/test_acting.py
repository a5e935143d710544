"""Steps that act: observations in states, in journals and under limits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from treeagent import (
    Agent,
    Budget,
    Checker,
    ConfigError,
    Event,
    Explorer,
    JournalError,
    NotRecordedError,
    ObserveLimits,
    Request,
    Result,
    Search,
    Thought,
    ToolError,
    World,
    YamlTask,
    in_thread,
)
from treeagent.backends.replay import ReplayBackend
from treeagent.backends.scripted import ScriptedBackend
from treeagent.display.progress import Progress
from treeagent.runtime.journal import read
from treeagent.strategies.bfs import BFS
from treeagent.testing import CheckerContract, Solution

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


def task(checker: str = "test_acting:Tool", **replaced: str) -> YamlTask:
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


def test_what_a_step_shows_is_in_its_state_and_in_the_prompts_of_its_children() -> None:
    """A step that needs no observation has none."""
    model = backend("do this\ndo that")
    result, events = run("", backend=model)
    assert states(result)[1:3] == ["start\ndo this\nsaw this", "start\ndo that\nsaw that"]
    assert "next of start\ndo this\nsaw this\n" in [request.prompt for request in model.requests]
    assert result.path == ("do this", "end it")
    assert result.thought is not None
    assert result.thought.state == "start\ndo this\nsaw this\nend it"
    observed = [event.data for event in events if event.type == "observed"]
    assert [data["observation"] for data in observed] == ["saw this", "saw that", None, None]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("do hang", "no observation within 0.1 s (observe.timeout)"),
        ("do crash", "the checker 'test_acting:Tool' failed: ZeroDivisionError: of the tool"),
        ("do refuse", "the tool is shut"),
        ("do number", "observe returned int, expected str"),
    ],
)
def test_a_tool_that_fails_drops_its_step_alone(step: str, reason: str) -> None:
    """With one line that says why; the others stay, and the search ends as usual."""
    notes: list[str] = []

    class Story(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    result, events = run(f"do this\n{step}\ndo that")
    assert [thought.text for thought in result.tree if thought.depth == 1] == ["do this", "do that"]
    assert result.ended == "finished"
    assert result.counts.failed == 1
    [dropped] = [event.data for event in events if event.type == "dropped"]
    assert (dropped["text"], dropped["why"]) == (step, "failed")
    assert reason in dropped["reason"]
    assert "\n" not in dropped["reason"]
    for event in events:
        Story().event(event)
    assert len(notes) == 1
    assert notes[0].startswith("A step failed: ")
    assert Tool.cancelled == ([step] if step == "do hang" else [])


def test_a_flood_is_cut() -> None:
    """With a note of how much; journals hold no more than that."""
    result, events = run("do flood")
    assert states(result)[1] == f"start\ndo flood\n{'x' * 20} [980 more characters]"
    assert max(len(json.dumps(event.data)) for event in events if event.type == "observed") < 300


def test_unparsed_and_illegal_steps_are_not_acted_on() -> None:
    """What a search drops has no effect on the world, unless the legality filter is off."""
    run("bad luck\nnonsense\ndo this")
    assert {text for _, text in Tool.calls} == {"do this", "end it"}
    run("bad luck", legality=False)
    assert "bad luck" in {text for _, text in Tool.calls}


class Twice(Search):
    """Expands the root twice."""

    async def run(self, explorer: Explorer) -> Thought | None:
        await explorer.grow([explorer.root], apart=True)
        await explorer.grow([explorer.root], apart=True)
        return None


def test_a_step_is_acted_on_once_even_where_it_comes_twice() -> None:
    """From the same state by two completions, and by two expansions; a failed one too."""
    result, events = run("do this\ndo this\ndo crash\ndo crash", search=Twice())
    assert sorted(Tool.calls) == [("start", "do crash"), ("start", "do this")]
    assert (result.counts.thoughts, result.counts.failed) == (4, 4)  # each first step is a branch of its own
    assert len([event for event in events if event.type == "observed"]) == 2


def test_a_run_resumed_from_any_line_acts_on_no_step_again(tmp_path: Path) -> None:
    """What the journal holds is not repeated, failures too, and the tree is the same."""
    path = tmp_path / "run.jsonl"
    whole, _ = run("do this\ndo crash\ndo hang\ndo that", journal=path)
    lines, calls = path.read_text().splitlines(keepends=True), sorted(Tool.calls)
    for count in range(1, len(lines)):
        path.write_text("".join(lines[:count]))
        known = [event.data["text"] for event in read(path) if event.type == "observed"]
        Tool.calls.clear()
        agent = Agent(task(), "bfs", backend=backend("do this\ndo crash\ndo hang\ndo that"))
        result = asyncio.run(agent.run("start", journal=path, resume=True).result())
        assert result.tree.to_json() == whole.tree.to_json()
        assert result.counts == whole.counts
        assert len(Tool.calls) == len(calls) - len(known)


def test_a_replay_acts_on_nothing(tmp_path: Path) -> None:
    """It shows what the journal holds, and says so where that lacks an observation."""
    path = tmp_path / "run.jsonl"
    whole, _ = run("do this\ndo crash", journal=path)
    Tool.calls.clear()
    result, _ = run("", backend=ReplayBackend(path))
    assert result.tree.to_json() == whole.tree.to_json()
    lines = [line for line in path.read_text().splitlines(keepends=True) if '"observed"' not in line]
    path.write_text("".join(lines))
    with pytest.raises(NotRecordedError, match="no observation of the step 'do this'"):
        run("", backend=ReplayBackend(path))
    assert Tool.calls == []


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
    slow = task("test_acting:Interrupting", **{"timeout: 0.1": "timeout: 1000"})
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
    again = Agent(task("test_acting:Interrupting"), "bfs", backend=backend("do this", "do hang"))
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
    result, _ = run("do block\ndo add", "no step", task=task("test_acting:InThread"))
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
    result, _ = run("do a\ndo b\ndo c", "no step", task=task("test_acting:Together"))
    assert result.counts.failed == 0
    assert result.counts.thoughts == 3


def test_nothing_is_asked_early_of_a_task_that_acts() -> None:
    """A guess would act on the world."""
    result, _ = run("do this\ndo that", speculate=4)
    assert result.speculated is None or not (result.speculated.hits or result.speculated.misses)
    assert len(Tool.calls) == len(set(Tool.calls))


def test_an_observation_can_end_a_path() -> None:
    """``observe.terminal`` sees it, as ``observe.state`` does."""
    keys = '  characters: 20\n  state: "{{ parent }} > {{ text }} = {{ observation }}"'
    keys += "\n  terminal: \"'this' in observation\""
    result, _ = run("do that\ndo this", task=task(**{"  characters: 20": keys}))
    assert result.path == ("do this",)
    assert states(result)[1] == "start > do that = saw that"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("timeout: 0.1", "timeout: 0", "observe.timeout"),
        ("timeout: 0.1", "time: 1", "observe.time: unknown key. Did you mean 'timeout'?"),
        ("characters: 20", 'state: "{{ observed }}"', "observe.state"),
        ("CHECKER", "gsm8k", "observe: nothing is observed: that needs a method 'observe' of the checker 'gsm8k'"),
        ("CHECKER", "test_acting:Blocking", "'observe' that is no coroutine; write 'async def observe'"),
    ],
)
def test_a_faulty_key_is_named_with_its_line(old: str, new: str, message: str) -> None:
    """Before anything runs."""
    text = TASK.replace(old, new).replace("CHECKER", "test_acting:Tool")
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


def test_a_journal_of_before_opens_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    """Its counts lack ``failed``; an ``observed`` line is held against its form."""
    path = tmp_path / "run.jsonl"
    run("do this", journal=path)
    old = [json.loads(line) for line in path.read_text().splitlines() if '"observed"' not in line]
    del old[-1]["counts"]["failed"]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert read(path)[-1].type == "end"
    agent = Agent(task(), "bfs", backend=backend("do this"))
    assert asyncio.run(agent.run("start", journal=path, resume=True).result()).path == ("do this", "end it")
    lines = path.read_text().replace('"observation": "saw this"', '"observation": 7')
    path.write_text(lines)
    with pytest.raises(JournalError, match="'observed' line is damaged: observation"):
        read(path)


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
