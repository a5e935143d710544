"""Events are records, and the text form of each is its line in the journal."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
from acting_tools import run as act
from early_tools import KeyedBackend
from serve_tools import SlowTree, agent

from treeagent import (
    AnswerEvent,
    BackendError,
    Budget,
    Completion,
    CompletionEvent,
    Event,
    JournalError,
    JudgedEvent,
    ResumedEvent,
)
from treeagent.reply import Round
from treeagent.runtime.journal import rounds_event
from treeagent.runtime.recorded_event import TYPES, RecordedEvent, from_text
from treeagent.testing.synthetic import random_tree, solve

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "journal.md"


def all_kinds(folder: Path) -> tuple[list[Event], list[str]]:
    """Events of several runs, and the lines of their journals."""
    events: list[Event] = []
    how = {"on_event": events.append, "speculate": 4}
    solve(KeyedBackend(random_tree(3, 4, 3), 1, refuses=5), "bfs", "likelihood", journal=folder / "0", **how)
    solve(KeyedBackend(random_tree(3, 4, 3), 2, refuses=5), "mcts", journal=folder / "1", **how)

    async def fail() -> None:
        raise BackendError("no power")

    events += act("try it\nend it", journal=folder / "2")[1]
    agent(budget=Budget(calls=2), options={"speculate": 0}).solve("r", journal=folder / "3", on_event=events.append)
    with pytest.raises(BackendError):
        agent(SlowTree(fail)).solve("r", journal=folder / "4", on_event=events.append)
    lines = [line for number in range(5) for line in (folder / str(number)).read_text().splitlines()]
    events += [rounds_event([Round(1.5, 0.25, 3, 40, 6, 2, 5)], 1.0, "mini"), ResumedEvent(budget=Budget(calls=9))]
    lines += [event.to_text(0.5) for event in events[-2:]]
    return events, lines


def test_the_text_of_an_event_is_the_line_of_the_journal_and_reads_back(tmp_path: Path) -> None:
    """Byte for byte, for every type that a run has; what is read is the same record."""
    events, lines = all_kinds(tmp_path)
    assert {event.type for event in events} == set(TYPES)
    for event, line in zip(events, lines, strict=True):
        seconds = json.loads(line)["t"]
        assert event.to_text(seconds) == line
        assert from_text(line) == event
        assert from_text(line).to_text(seconds) == line
        assert json.loads(line) == {"type": event.type, "t": seconds, **json.loads(json.dumps(event.data))}
        assert type(event) is TYPES[event.type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.type = "other"


def test_the_fields_are_those_that_the_document_lists() -> None:
    """Each type has a class; ``end`` is documented with ``solve --json``, and some fields below the table."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(TYPES)
    for name, listed in rows[:-1]:
        real = [item.name for item in dataclasses.fields(TYPES[name])][1:]
        below = {"messages", "row", *(["model"] if name in ("completion", "refused", "thought") else [])}
        assert [field for field in real if field not in below] == re.findall(r"`(\w+)`", listed), name


def test_lines_of_older_and_newer_versions_are_read() -> None:
    """What an older one lacks is unknown; what this one does not know is left out of a record, or stays as it is."""
    old = '{"type": "completion", "t": 0.1, "id": "a", "role": "io", "prompt": "p", "completions": [{"text": "x", '
    event = from_text(old + '"tokens": null, "finish": "stop", "new": 1}], "usage": {"calls": 1}, "future": true}')
    assert isinstance(event, CompletionEvent)
    assert (event.completions, event.thought, event.seconds) == ((Completion("x"),), None, None)
    judged = from_text('{"type": "judged", "id": 1, "value": null, "labels": ["sure"], "unparsed": 0}')
    assert judged == JudgedEvent(id=1, value=None, labels=("sure",), unparsed=0)
    later = from_text('{"type": "later", "t": 1.0, "what": [1]}')
    assert later == RecordedEvent("later", {"what": [1]})
    assert later.to_text(1.0) == '{"type": "later", "t": 1.0, "what": [1]}'
    scores = '{"type": "scores", "id": "a", "prompt": "p", "logprobs": [null], "lengths": [1], "usage": {"calls": 1}}'
    assert from_text(scores).data["logprobs"] == [-math.inf]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "not a line"),
        ("{", "not a line"),
        ('{"t": 1}', "not a line"),
        ('{"type": "answer", "id": "x", "answer": "y"}', "this 'answer' line is damaged: id: .*'x'"),
        ('{"type": "answer", "answer": "y"}', "id: this key is missing"),
        ('{"type": "scores", "id": "a", "prompt": "p", "lengths": [1], "logprobs": 1}', "logprobs"),
    ],
)
def test_a_damaged_line_is_named(line: str, said: str) -> None:
    """With its key."""
    with pytest.raises(JournalError, match=said):
        from_text(line)


def test_who_reads_the_fields_as_a_mapping_goes_on() -> None:
    """``data`` has what the dictionaries of before had."""
    event = AnswerEvent(id=3, answer="x")
    assert (event.type, event.data["id"], event.data) == ("answer", 3, {"id": 3, "answer": "x"})
