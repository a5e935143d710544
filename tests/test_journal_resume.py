"""A run goes on from any moment of its journal's life, with the agent that wrote it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import TREE, journalled, resumed
from synthetic import TASK, TreeBackend, essence, solve, task

from treeagent import (
    Agent,
    Backend,
    BackendError,
    Budget,
    ConfigError,
    Journal,
    JournalError,
    Reply,
    Request,
    Search,
    registry,
)
from treeagent.runtime.journal import read, recorded
from treeagent.runtime.journal_tree import rebuild
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.evaluators import Choice, Value, Vote
from treeagent.strategies.mcts import MCTS
from treeagent.thought import Tree


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
