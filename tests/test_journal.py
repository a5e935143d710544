"""The journal: what is written can be read again, and a run goes on from any moment of its life."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TASK, TreeBackend, essence, solve, task

from treeagent import (
    Agent,
    Backend,
    BackendError,
    Budget,
    Completion,
    ConfigError,
    Event,
    Journal,
    JournalError,
    Reply,
    Request,
    Result,
    Scores,
    Search,
    Usage,
    registry,
)
from treeagent.runtime.journal import completion_event, read, recorded, reply_from, scores_event, scores_from
from treeagent.runtime.journal_tree import rebuild
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.evaluators import Choice, Value, Vote
from treeagent.strategies.mcts import MCTS
from treeagent.thought import Tree

TREE = [[1, [9]], 3]
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


# Round trips


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


# Resume


def journalled(path: Path) -> set[str]:
    return {event.data["id"] for event in read(path) if event.type in ("completion", "scores")}


def resumed(path: Path, search: Search, evaluator: Any, **more: Any) -> tuple[Result, TreeBackend]:
    backend = TreeBackend(TREE, order=more.pop("order", None))
    agent = Agent(task(), search, backend=backend, evaluator=evaluator, **more)
    return asyncio.run(agent.run("r", journal=path, resume=True).result()), backend


@pytest.mark.parametrize(
    ("search", "evaluator", "more"),
    [
        (BFS(b=2), "value", {}),
        (DFS(threshold=3), Choice(), {"order": 5}),
        (MCTS(simulations=3, parallel=2), Vote(), {}),
        (CoTSC(k=3), "value", {}),
        (BFS(b=2), "value", {"budget": Budget(tokens=420)}),
    ],
)
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_run_resumed_from_any_line_ends_as_if_undisturbed(
    step: int, search: Search, evaluator: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    """Cut after any line: same result, no journalled request asked again, and the journal complete at the end.

    The default run cuts after every third line and the last.
    """
    path = tmp_path / "run.jsonl"
    how = {key: value for key, value in more.items() if key != "order"}
    whole = solve(TreeBackend(TREE), search, evaluator, journal=path, **how)
    lines = path.read_bytes().splitlines(keepends=True)
    identity = {(event.type, json.dumps({**event.data, "t": 0, "seconds": 0})) for event in read(path)}
    for kept in range(len(lines), 0, -step):
        path.write_bytes(b"".join(lines[:kept]))
        before = journalled(path)
        result, backend = resumed(path, search, evaluator, **more)
        assert essence(result) == essence(whole)
        asked = [request.id for request in backend.requests]
        assert not before & set(asked)
        assert len(before) + len(asked) == whole.usage.calls
        ends = [event for event in read(path) if event.type == "end"]
        assert len(ends) == 1 + (kept == len(lines))
        again = {(event.type, json.dumps({**event.data, "t": 0, "seconds": 0})) for event in read(path)}
        assert {event for event in again if event[0] != "resumed"} == identity
        assert _same(rebuild(read(path)).tree, result.tree)


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_journal_cut_at_any_byte_can_be_resumed(step: int, tmp_path: Path) -> None:
    """A torn tail is cut off; what follows is whole lines again, and the answer is the same."""
    tree = [1, 2]
    path = tmp_path / "run.jsonl"
    whole = solve(TreeBackend(tree), BFS(b=1), journal=path)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(first, len(content), step):
        path.write_bytes(content[:cut])
        before = journalled(path)
        Journal(path, resume=True).close()
        assert path.read_bytes() == content[: content.rindex(b"\n", 0, cut) + 1]
        if (cut - first) % (
            41 * step
        ):  # the run itself at fewer places, for time; test_a_run_resumed_from_any_line has every line
            continue
        path.write_bytes(content[:cut])
        backend = TreeBackend(tree)
        run = Agent(task(), BFS(b=1), backend=backend).run("r", journal=path, resume=True)
        assert essence(asyncio.run(run.result())) == essence(whole)
        assert not before & {request.id for request in backend.requests}
        assert all(json.loads(line) for line in path.read_bytes().split(b"\n") if line)
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    "tail", [b"\0\0\0\0", b'{"type": "thought"', b"\xff\xfe", b'{"type": "judged", "id": 1}', b"[[[["]
)
def test_whatever_a_crash_leaves_at_the_end_is_cut_off(tail: bytes, tmp_path: Path) -> None:
    """Zeros after a power cut, half a line, half a character, a line without its end."""
    path = tmp_path / "run.jsonl"
    whole = solve(TreeBackend(TREE), BFS(b=2), journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]) + tail)
    result, _ = resumed(path, BFS(b=2), "value")
    assert essence(result) == essence(whole)
    assert tail not in path.read_bytes().replace(b'"type": "thought"', b"").replace(b"[[", b"") or tail[:1] in b"{["


def test_a_failed_run_can_be_resumed(tmp_path: Path) -> None:
    """After a failure of the backend the run goes on where it failed, and ends as if nothing had happened."""
    path = tmp_path / "run.jsonl"

    class Failing(TreeBackend):
        async def generate(self, request: Request) -> Reply:
            if len(self.requests) == 4:
                raise BackendError("no more")
            return await super().generate(request)

    with pytest.raises(BackendError):
        solve(Failing(TREE), BFS(b=2), journal=path)
    assert [event.type for event in read(path)][-2:] == ["failed", "end"]
    before = journalled(path)
    result, backend = resumed(path, BFS(b=2), "value")
    assert essence(result) == essence(solve(TreeBackend(TREE), BFS(b=2)))
    assert not before & {request.id for request in backend.requests}


def test_a_run_cut_by_a_budget_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    """What was paid for counts; completions that the old budget had shortened are asked for again, in full."""
    path = tmp_path / "run.jsonl"
    cut = solve(TreeBackend(TREE), BFS(b=2), journal=path, budget=Budget(calls=3))
    assert cut.ended == "calls"
    result, backend = resumed(path, BFS(b=2), "value", budget=Budget())
    assert result.answer == solve(TreeBackend(TREE), BFS(b=2)).answer
    assert len(backend.requests) == result.usage.calls - 3
    assert _same(rebuild(read(path)).tree, result.tree)
    assert recorded(read(path))["budget"]["calls"] is None


def _same(rebuilt: Tree, grown: Tree) -> bool:
    """State keys are not in a journal; everything else is."""
    return [{**row, "key": ""} for row in rebuilt.to_json()] == [{**row, "key": ""} for row in grown.to_json()]


def test_a_journal_torn_in_its_first_line_is_begun_again(tmp_path: Path) -> None:
    """There is nothing in it to lose; any other file is left alone."""
    path = tmp_path / "run.jsonl"
    whole = solve(TreeBackend(TREE), BFS(b=2), journal=path)
    path.write_bytes(path.read_bytes()[:40])
    assert essence(solve(TreeBackend(TREE), BFS(b=2), journal=path)) == essence(whole)
    path.write_text("my only notes")
    with pytest.raises(JournalError, match="exists already"):
        solve(TreeBackend(TREE), BFS(b=2), journal=path)
    assert path.read_text() == "my only notes"


class Named(TreeBackend):
    """A tree backend that can be opened by name."""

    name = f"{__name__}:Named"

    def __init__(self, speed: str = "1") -> None:
        super().__init__(TREE)
        self.speed = speed

    @classmethod
    def open(cls, model: str | None, options: Any) -> Backend:
        """By options."""
        return cls(**options)

    def describe(self) -> dict[str, Any]:
        """What ``open`` takes."""
        return {"name": self.name, "model": self.model, "options": {"speed": self.speed}}


@pytest.mark.parametrize("search", registry.names("search"))
@pytest.mark.parametrize(
    "evaluator", ["value", "choice", "vote", "likelihood", "reward", "generative", "pairwise", "outcome", "prm"]
)
def test_every_search_and_evaluator_is_written_down_so_that_it_opens_again(
    search: str, evaluator: str, tmp_path: Path
) -> None:
    """The journal holds options alone, and all of them."""
    file, path = tmp_path / "own.yaml", tmp_path / "run.jsonl"
    file.write_text(TASK)
    agent = Agent(file, search, backend=Named(), evaluator=evaluator)
    agent.solve("r", journal=path)
    again, _ = Agent.from_journal(path, allow_code=True)
    assert (again.search, again.evaluator, again.settings) == (agent.search, agent.evaluator, agent.settings)


@pytest.mark.parametrize("as_objects", [True, False])
def test_the_agent_of_a_journal_is_the_one_that_wrote_it(as_objects: bool, tmp_path: Path) -> None:
    """Task, search, evaluator, backend, options, seed and budget come back from the first line."""
    file, path = tmp_path / "own.yaml", tmp_path / "run.jsonl"
    file.write_text(TASK.replace("metadata:", "variables: {mood: good}\nmetadata:"))
    budget = Budget(calls=100, seconds=50.0)
    if as_objects:
        agent = Agent(file, BFS(b=2), backend=Named("7"), evaluator=Value(samples=2), seed=4, budget=budget)
    else:
        agent = Agent(
            str(file), "bfs", backend=Named.name, evaluator="value", seed=4, budget=budget, legality=True,
            options={"b": "2", "evaluator.samples": "2", "backend.speed": "7"}, variables={"mood": "bad"},
        )  # fmt: skip
    agent.solve("r", journal=path)
    again, text = Agent.from_journal(path, allow_code=True)
    assert text == "r"
    assert (again.seed, again.budget, again.search, again.evaluator) == (4, budget, agent.search, agent.evaluator)
    assert again.settings == {**agent.settings, **{key: again.settings[key] for key in ("search", "evaluator")}}
    assert again.backend.describe() == agent.backend.describe()
    assert Agent.from_journal(path, allow_code=True, seed=9)[0].seed == 9
    file.write_text(file.read_text().replace("version: 1", "version: 2"))
    with pytest.raises(ConfigError, match=r"version 1.*version 2"):
        Agent.from_journal(path, allow_code=True)


# What is no journal, and what cannot be written


def test_an_existing_journal_is_never_overwritten(tmp_path: Path) -> None:
    """The error says how to continue it; the file stays as it is. An empty file is free."""
    path = tmp_path / "run.jsonl"
    path.touch()
    solve(TreeBackend(TREE), BFS(), journal=path)
    content = path.read_bytes()
    with pytest.raises(JournalError, match="treeagent resume"):
        solve(TreeBackend(TREE), BFS(), journal=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"dear diary\ntoday was a good day\n",
        b'{"a": 1}\n{"b": 2}\n',
        b"[1, 2]\n[3]\n",
        b"17\n18\n",
        b'"text"\n"more"\n',
        b"\xff\xfe\n\xff\n",
        b'{"type": "thought", "id": 1}\n{"type": "run", "format": 1}\n',
        b'{"type": "run", "format": 99}\n',
        b"[" * 100_000 + b"\n{}\n",
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    """One clear error, whether read or resumed, and not a byte changed."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"journal"):
        read(path)
    with pytest.raises(JournalError, match=r"journal"):
        Journal(path, resume=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"type": "run", "format": 1', b"what?"])
def test_a_journal_without_a_whole_line_cannot_be_resumed(content: bytes, tmp_path: Path) -> None:
    """Torn within its first line there is nothing to go on from, and nothing is destroyed."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="nothing to resume"):
        Journal(path, resume=True)
    with pytest.raises(JournalError, match="nothing to resume"):
        Agent.from_journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "completion", "id": "x"}',
        '{"type": "completion", "id": "x", "completions": [{}], "usage": {}}',
        '{"type": "scores"}',
        '{"type": "completion", "id": "x", "completions": [], "usage": {"calls": 1, "what": 2}}',
    ],
)
def test_a_damaged_line_in_the_middle_is_a_clear_error(line: str, tmp_path: Path) -> None:
    """A line that lacks what resume needs is named, not a traceback."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "run", "format": 1}\n' + line + "\n")
    with pytest.raises(JournalError, match="damaged"):
        Journal(path, resume=True)


def test_a_first_line_without_settings_is_a_clear_error(tmp_path: Path) -> None:
    """An agent cannot be made from it."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "run", "format": 1}\n')
    with pytest.raises(JournalError, match="damaged"):
        Agent.from_journal(path)


@pytest.mark.parametrize("place", ["missing/run.jsonl", ".", "x" * 300, "file/run.jsonl"])
def test_an_unwritable_journal_is_an_error_before_the_first_request(place: str, tmp_path: Path) -> None:
    """A missing folder, a folder, a name too long, a file in place of a folder: one error, and nothing was asked."""
    (tmp_path / "file").touch()
    backend = TreeBackend(TREE)
    with pytest.raises(JournalError, match="cannot write the journal"):
        solve(backend, BFS(), journal=tmp_path / place)
    assert not backend.requests


def test_a_journal_that_is_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(JournalError, match=r"gone\.jsonl"):
        Journal(tmp_path / "gone.jsonl", resume=True)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's refusal ends the run with JournalError; closing the file afterwards raises nothing more."""
    path = tmp_path / "run.jsonl"
    agent = Agent(*_parts(), backend=TreeBackend(TREE))
    run = agent.run("r", journal=path)
    assert run._journal is not None
    file = run._journal._file

    class Full:
        closed = 0

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            Full.closed += 1
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run._journal, "_file", Full())
    with pytest.raises(JournalError, match="No space left"):
        asyncio.run(run.result())
    assert Full.closed == 1


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


def _parts() -> tuple[Any, Any]:
    return task(), BFS()


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
