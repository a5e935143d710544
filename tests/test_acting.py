"""Steps that act: observations in states, in journals, in prompts and in replays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from acting_tools import Tool, backend, run, states, task
from acting_tools import _fresh as _fresh  # noqa: PLC0414  the fixture

from treeagent import (
    Agent,
    Explorer,
    JournalError,
    NotRecordedError,
    Search,
    Thought,
)
from treeagent.backends.replay import ReplayBackend
from treeagent.display.progress import Progress
from treeagent.runtime.journal import read


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
        ("do crash", "the checker 'acting_tools:Tool' failed: ZeroDivisionError: of the tool"),
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
