"""The journal: what is written can be read again, event by event."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resumed_runs import TREE, _parts, resumed
from synthetic import TreeBackend, essence, solve

from treeagent import (
    Agent,
    BackendError,
    Completion,
    Event,
    Reply,
    Scores,
    Usage,
)
from treeagent.runtime.journal import completion_event, read, reply_from, scores_event, scores_from
from treeagent.runtime.journal_tree import rebuild
from treeagent.strategies.bfs import BFS

USAGES = st.builds(
    Usage,
    st.integers(0, 9),
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
    st.none() | st.floats(0, 1e6),
)
COMPLETIONS = st.builds(
    Completion,
    st.text(),
    st.none() | st.lists(st.integers(0, 2**31)).map(tuple),
    st.sampled_from(["stop", "length"]),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(COMPLETIONS, min_size=1, max_size=4).map(tuple), USAGES)
def test_a_reply_comes_back_from_json(completions: tuple[Completion, ...], usage: Usage) -> None:
    """Any text, lone surrogates and line separators included, survives."""
    reply = Reply(completions, usage)
    data = json.loads(json.dumps(completion_event("id", "value", "p", reply).data))
    assert reply_from(data) == reply


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False)).map(tuple), USAGES)
def test_scores_come_back_from_json(logprobs: tuple[float, ...], usage: Usage) -> None:
    """Infinite log-probabilities too."""
    scores = Scores(logprobs, tuple(range(len(logprobs))), usage)
    assert scores_from(json.loads(json.dumps(scores_event("id", "p", scores).data))) == scores


def test_every_event_that_a_handler_sees_is_on_disk(tmp_path: Path) -> None:
    """The journal and the handler have the same story, and each line carries its time."""
    seen: list[Event] = []
    path = tmp_path / "run.jsonl"
    solve(TreeBackend(TREE), BFS(), journal=path, on_event=seen.append)
    events = read(path)
    assert [event.type for event in events] == [event.type for event in seen]
    assert {"run", "completion", "thought", "judged", "answer", "end"} <= {event.type for event in events}
    times = [event.data.pop("t") for event in events]
    assert times == sorted(times)
    for event, original in zip(events, seen, strict=True):
        assert event.data == json.loads(json.dumps(original.data))


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    """A kill at any moment loses nothing that a handler has seen: each event is flushed before the handler call."""
    path = tmp_path / "run.jsonl"
    counts: list[tuple[int, int]] = []
    solve(TreeBackend(TREE), BFS(), journal=path, on_event=lambda event: counts.append((len(read(path)), len(counts))))
    assert [on_disk for on_disk, _ in counts] == [before + 1 for _, before in counts]


def test_the_engines_own_figures_are_in_the_end_event(tmp_path: Path) -> None:
    """What the backend counted during the run, under ``engine``; a run that cannot begin has none."""
    path = tmp_path / "run.jsonl"

    class Counting(TreeBackend):
        def meter(self) -> Callable[[], dict[str, Any]]:
            start = len(self.requests)
            return lambda: {"requests": len(self.requests) - start, "drafted": None}

        def load(self) -> None:
            if self.requests:
                raise BackendError("no more")

    backend = Counting(TREE)
    result = solve(backend, BFS(b=2), journal=path)
    assert result.engine == {"requests": result.usage.calls, "drafted": None}
    assert read(path)[-1].data["engine"] == result.engine
    with pytest.raises(BackendError) as failure:
        solve(backend, BFS(b=2))
    assert failure.value.result.engine == {}


def test_a_journal_without_figures_can_still_be_read(tmp_path: Path) -> None:
    """Journals of before ``engine`` was written: rebuilt, and resumed."""
    path = tmp_path / "run.jsonl"
    whole = solve(TreeBackend(TREE), BFS(b=2), journal=path)
    lines = path.read_text().splitlines(keepends=True)
    end = json.loads(lines.pop())
    assert end.pop("engine") == {}
    path.write_text("".join(lines) + json.dumps(end) + "\n")
    assert rebuild(read(path)).solved == whole.solved
    assert essence(resumed(path, BFS(b=2), "value")[0]) == essence(whole)


def test_a_wrong_input_leaves_no_journal_behind(tmp_path: Path) -> None:
    """What is refused before it begins writes nothing."""
    path = tmp_path / "run.jsonl"
    agent = Agent(*_parts(), backend=TreeBackend(TREE))
    with pytest.raises(Exception, match="name of the root"):
        agent.run("17", journal=path)
    assert not path.exists()


def test_which_tokens_were_drafted_comes_back_from_json_and_may_be_unknown() -> None:
    """Known places and offsets survive; a line without them, as older journals have it, leaves them unknown."""
    told = Completion("ab", (7, 8), drafted=(1,), ends=(1, 2))
    data = json.loads(json.dumps(completion_event("id", "value", "p", Reply((told, Completion("ab")), Usage())).data))
    known, unknown = reply_from(data).completions
    assert (known.drafted, known.ends) == ((1,), (1, 2))
    assert (unknown.drafted, unknown.ends) == (None, None)
    assert "drafted" not in data["completions"][1]


def test_a_judgement_names_the_requests_it_was_made_from(tmp_path: Path) -> None:
    """Each id is that of a request at a thought, the time of its reply is recorded, and none is missing."""
    path = tmp_path / "run.jsonl"
    solve(TreeBackend(TREE), BFS(), journal=path)
    events = [event.data for event in read(path)]
    asked = {data["id"]: data for data in events if data.get("role") == "value"}
    judged = [data for data in events if "labels" in data]
    assert asked
    for data in judged:
        assert [asked[id]["thought"] for id in data["requests"]] == [data["id"]]
        assert all(asked[id]["seconds"] >= 0 for id in data["requests"])
    assert {id for data in judged for id in data["requests"]} == set(asked)
