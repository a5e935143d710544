"""Pages of torn, resumed and older journals, and of the engine's rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import call
from journals import Story
from viewed import journal as journal  # noqa: PLC0414  the fixture
from viewed import load

from treeagent import Agent, Budget, JournalError
from treeagent.runtime.journal import read
from treeagent.runtime.recorded_event import RecordedEvent
from treeagent.viewer.run_data import STEPS, pieces, run_data


def test_a_torn_journal_is_shown_as_far_as_it_goes(journal: Path) -> None:
    """Any beginning of a journal gives a page that says that there is no end."""
    whole = journal.read_bytes()
    for share in (0.1, 0.4, 0.8):
        journal.write_bytes(whole[: int(len(whole) * share)])
        tree = load(journal).tree
        assert tree["end"] is None
        assert any("no end" in note for note in tree["notes"])
        assert len(tree["thoughts"]["id"]) > 1


def test_a_resumed_journal_is_told_once(journal: Path, tmp_path: Path) -> None:
    """A run that was killed and resumed shows the tree of an undisturbed one, and says that it was resumed."""
    whole = load(journal)
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(journal.read_bytes()[:9000])
    call("resume", str(torn), "--allow-code")
    again = load(torn)
    assert again.tree["thoughts"]["text"] == whole.tree["thoughts"]["text"]
    assert again.tree["asked"].keys() == whole.tree["asked"].keys()
    assert any("resumed once" in note for note in again.tree["notes"])
    earlier = [request for request in again.tree["requests"] if request[1] is None]
    assert 0 < len(earlier) < len(again.tree["requests"])


def test_a_resumed_journal_that_was_cut_off_again_shows_what_goes_furthest(tmp_path: Path) -> None:
    """The second telling has barely begun: the first one is shown."""
    run = Story()
    for number in range(5):
        run.thought(0, f"step {number}")
    run.add("resumed", budget={})
    run.paths, run.children = {0: []}, {0: 0}
    run.thought(0, "step 0")
    tree = load(run.write(tmp_path / "run.jsonl")).tree
    assert len(tree["thoughts"]["id"]) == 6
    assert any("goes furthest" in note for note in tree["notes"])


def test_an_older_journal_leaves_unknown_what_it_does_not_tell(journal: Path) -> None:
    """Without the fields that came later a page can be made, and nothing is made up."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        later = {"completion": ("thought", "seconds"), "judged": ("requests",)}
        for name in later.get(line["type"], ()):
            line.pop(name)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tree = load(journal).tree
    assert all(request[2] is request[3] is None for request in tree["requests"])
    assert not any(tree["asked"].values())


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ({"text": "a b c", "drafted": [1], "ends": [1, 3, 5]}, [("a", 0), (" b", 1), (" c", 0)]),
        ({"text": "a b c", "drafted": [0, 1], "ends": [1, 3, 5]}, [("a b", 1), (" c", 0)]),
        ({"text": "a b \U0001f600!", "drafted": [2], "ends": [1, 3, 5]}, [("a b", 0), (" \U0001f600", 1), ("!", 0)]),
        ({"text": "abc", "drafted": []}, [("abc", 0)]),
        ({"text": "abc", "drafted": [1]}, [("abc", -1)]),
        ({"text": "abc"}, [("abc", -1)]),
    ],
)
def test_accepted_draft_tokens_are_marked_in_the_text(sample: dict[str, Any], expected: list[tuple[str, int]]) -> None:
    """Runs of tokens by whether they were drafted; -1 where that or their place in the text is unknown."""
    assert pieces(sample) == expected


def test_the_engines_rounds_are_in_the_journal_and_in_the_page(tmp_path: Path) -> None:
    """Their sums are the engine's own figures; each round precedes the replies that it completed."""
    path = tmp_path / "run.jsonl"
    options = {"backend.device": "cpu", "backend.draft": "mini-draft", "backend.draft_tokens": 3}
    agent = Agent("game24", "bfs", backend="seed", options=options, budget=Budget(calls=12))
    result = agent.solve("4 5 6 10", journal=path)
    rounds = load(path).tree["rounds"]
    sums = {name: sum(rounds[name]) for name in ("rows", "read", "drafted", "accepted", "tokens")}
    engine = result.engine
    assert {name: sums[name] for name in ("drafted", "accepted", "tokens")} == {
        name: engine[name] for name in ("drafted", "accepted", "tokens")
    }
    assert len(rounds["at"]) == engine["rounds"] > 5
    assert sums["read"] == engine["prefix_tokens_computed"]
    assert sums["tokens"] / sums["rows"] == pytest.approx(engine["block_efficiency"], abs=1e-3)
    assert rounds["at"][0] >= 0
    assert sum(rounds["seconds"]) <= result.seconds
    assert set(rounds["model"]) == {"mini"}
    told_of = answered = 0
    for event in read(path):
        if event.type == "rounds":
            told_of += sum(event.data["tokens"])
        elif event.type == "completion":
            answered += event.data["usage"]["completion_tokens"]
            assert told_of >= answered > 0


def test_rounds_of_two_engines_stand_in_the_order_of_time() -> None:
    """Told apart by model; a damaged column is said to be one."""
    story_of = Story()
    story_of.rounds("large", (0.1, 0.2, 3, 40, 0, 0, 3), (0.5, 0.1, 3, 0, 6, 2, 5))
    story_of.rounds("small", (0.3, 0.1, 1, 9, 0, 0, 1))
    events = [RecordedEvent(line.pop("type"), line) for line in story_of.lines]
    rounds = run_data(events, "run.jsonl").tree["rounds"]
    assert rounds["model"] == ["large", "small", "large"]
    assert rounds["tokens"] == [3, 1, 5]
    for damage in ([], [3, None], [3, "4"], [3, float("nan")]):
        events[1].data["rows"] = damage
        with pytest.raises(JournalError, match="damaged"):
            run_data(events, "run.jsonl")


def test_visits_and_early_requests_are_in_the_page(tmp_path: Path) -> None:
    """In the order of the events, and at the thoughts and requests that they belong to; guessed steps have none."""
    story = Story()
    story.reply("a", "propose", 0, "first")
    first = story.thought(0, "first", request="a")
    story.add("visited", ids=[first, 0], visits=[1, 1], means=[None, 2.5])
    sent = {"role": "propose", "seconds": 0.2, "prompt_tokens": None, "completion_tokens": 9}
    story.add("early", id="a", kind="piece", hit=True, place="root", began=0.1, asked=0.2, **sent)
    story.add("early", id="b", kind="later", hit=False, place="0.7", began=0.3, **sent)
    tree = load(story.write(tmp_path / "run.jsonl")).tree
    assert tree["visited"] == [[[first, 0], [1, 1], [None, 2.5]]]
    assert tree["steps"]["kind"][-1] == STEPS.index("visited")
    assert tree["early"] == [["piece", True, 0.1, 0.2, 0.2, 9, 0, 0], ["later", False, 0.3, 0.2, None, 9, None, None]]
    story.add("visited", ids=[5], visits=[1], means=[1.0])
    with pytest.raises(JournalError, match="there is no thought 5"):
        load(story.write(tmp_path / "run.jsonl"))
