"""Requests that nobody waits for any more: cancelled, with a closed event loop, or with an interrupted process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from draft_bench import under_way
from seed_tools import HEAD, LIMIT, MIX, Naive, Open, ask, clean, idle, scheduler, told

from treeagent.backends.seed.backend import SeedBackend
from treeagent.request import Key, Request, Sampling, ScoreRequest
from treeagent.runtime.journal import read

pytestmark = pytest.mark.usefixtures("fixed_times")


@pytest.fixture(scope="module")
def backend(pair: Path, opened: Open) -> SeedBackend:
    """One with a draft model; no test changes it."""
    return opened(draft=str(pair / "model-draft"), draft_tokens=3)


def held(backend: SeedBackend, monkeypatch: pytest.MonkeyPatch, at: int) -> tuple[threading.Event, threading.Event]:
    """Stop the engine in its ``at``-th pass: the first event is set when it has stopped, the second continues it."""
    there, go = threading.Event(), threading.Event()
    runner = scheduler(backend).runner
    forward, passes = runner.forward, []

    def stopping(spans: Sequence[Any]) -> Any:
        passes.append(1)
        if len(passes) == at:
            there.set()
            assert go.wait(LIMIT)
        return forward(spans)

    monkeypatch.setattr(runner, "forward", stopping)
    return there, go


def test_a_cancelled_request_frees_its_memory_at_once(
    backend: SeedBackend, naive: Naive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next round its keys and values are gone, cached prefixes included; the others end as if alone."""
    backend.reset()
    there, go = held(backend, monkeypatch, at=4)
    long = Request("4 " * 50, Key(0, "propose", "2"), Sampling(temperature=0.2, max_tokens=100), 4)
    live: list[int] = []
    tokens: list[int] = []
    drop = scheduler(backend).jobs.sort

    def dropped() -> None:
        drop()
        tokens.append(scheduler(backend).runner.forest.tokens)

    monkeypatch.setattr(scheduler(backend).jobs, "sort", dropped)

    async def run() -> list[Any]:
        tasks = [asyncio.ensure_future(backend.generate(asked)) for asked in (long, MIX[0])]
        await asyncio.to_thread(there.wait, LIMIT)
        live.append(len(scheduler(backend).live))
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        tokens.clear()
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    gone, kept = asyncio.run(asyncio.wait_for(run(), LIMIT))
    idle(backend)
    assert isinstance(gone, asyncio.CancelledError)
    assert told([kept]) == naive.expected([MIX[0]])
    assert live == [5]  # none of its samples had ended, and left its text for later use
    assert tokens[0] < 100
    clean(backend)


def test_nothing_remains_of_a_cancelled_search(backend: SeedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its requests at once, those still waiting for a row too: not a slot is in use any more."""
    backend.reset()
    monkeypatch.setattr(scheduler(backend).jobs, "max_rows", 3)
    there, go = held(backend, monkeypatch, at=3)

    async def search() -> None:
        await asyncio.gather(*(backend.generate(asked) for asked in MIX), backend.score(ScoreRequest(HEAD, ("sure",))))

    async def run() -> None:
        task = asyncio.ensure_future(search())
        await asyncio.to_thread(there.wait, LIMIT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go.set()

    asyncio.run(asyncio.wait_for(run(), LIMIT))
    clean(backend)
    assert scheduler(backend).runner.forest.pool.used == 0


@pytest.mark.parametrize("how", ["closed", "stopped"])
def test_an_event_loop_that_ends_takes_its_requests_along(
    backend: SeedBackend, naive: Naive, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Closed with requests pending, or left by ``asyncio.run``: the engine forgets them and serves the next loop."""
    backend.reset()
    there, go = held(backend, monkeypatch, at=3)
    endless = Request("24", Key(0, "propose", "0"), Sampling(temperature=1.0, max_tokens=10**6), 3)

    async def leave() -> None:
        task = asyncio.ensure_future(backend.generate(endless))
        await under_way(backend)
        await asyncio.to_thread(there.wait, LIMIT)
        assert not task.done()

    if how == "closed":
        loop = asyncio.new_event_loop()
        task = loop.create_task(backend.generate(endless))
        loop.run_until_complete(under_way(backend))
        assert there.wait(LIMIT)
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as intended here
    else:
        asyncio.run(leave())
    go.set()
    idle(backend)
    assert scheduler(backend).runner.passes
    clean(backend)
    assert told(ask(backend, *MIX)) == naive.expected(MIX)


CHILD = """
import sys
from pathlib import Path
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.cli import main

journal, forward = Path(sys.argv[1]), ModelRunner.forward

def stopping(self, spans):
    if journal.is_file() and journal.read_text().count('"completion"') >= 2:
        ModelRunner.forward = forward
        print("there", flush=True)
        sys.stdin.readline()
    return forward(self, spans)

ModelRunner.forward = stopping
sys.argv[1:] = sys.argv[2:]
main()
"""
SOLVE = ["solve", "-t", "game24", "-b", "seed", "-m", "mini", "-i", "4 9 10 13", "--set", "b=1"]


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_an_interrupted_process_ends_and_its_journal_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in mid-round: exit code 130, every answer so far on disk, and the run can be resumed to the same end."""
    from cli_tools import call

    journal = tmp_path / "run.jsonl"
    words = [*SOLVE, "--set", "backend.threads=1", "--journal", str(journal)]
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(journal), *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate("\n", timeout=LIMIT)
    assert line == "there\n", err
    assert child.returncode == 130, out + err
    before = read(journal)
    answered = sum(event.type == "completion" for event in before)
    assert answered >= 2
    resumed = json.loads(call("resume", str(journal), "--json").stdout)
    whole = json.loads(call(*SOLVE, "--json").stdout)
    assert (resumed["path"], resumed["usage"]["calls"]) == (whole["path"], whole["usage"]["calls"])
    assert resumed["engine"]["tokens"] < whole["engine"]["tokens"]
