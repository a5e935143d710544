"""A third party's check that does not end: limits of time and Ctrl-C hold all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cli_tools import call

from treeagent import Agent, Budget, Checker, Result, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.evaluation.outcomes import read
from treeagent.runtime import run

TASK = """
name: slow
description: Sums whose check does not end.
metadata: {version: 1}
checker: test_checker_limits:Slow
input: {description: a sum, examples: ['2+2']}
depth: 1
prompts: {io: 'What is {{ input }}?', propose: 'What is {{ input }}?', value: 'Value of {{ state }}'}
answer: {template: '{{ steps[-1] }}'}
data: {file: sums.jsonl, input: '{{ question }}', gold: '{{ answer }}'}
"""
GATE = threading.Event()
"""Ends every check that waits."""


class Slow(Checker):
    """Checks nothing about ``x``, for which every method of it waits."""

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        return not ("x" in (*steps, answer) and GATE.wait(60))

    def grade(self, answer: str, gold: str) -> bool:
        return not (gold == "x" and GATE.wait(60))

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        return not (input == "5+5" and GATE.wait(60))


@pytest.fixture(autouse=True)
def _gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(run, "_CHECK_SECONDS", 0.3)
    GATE.clear()
    yield
    GATE.set()


def solve(search: str, evaluator: str = "value", seconds: float = 0.3) -> Result:
    backend = ScriptedBackend(lambda request: "x" if request.prompt.startswith("What") else "sure")
    task = YamlTask(TASK, Path("slow.yaml"), allow_code=True)
    agent = Agent(task, search, evaluator=evaluator, backend=backend, budget=Budget(seconds=seconds))
    return agent.solve("2+2")


@pytest.mark.parametrize("search", ["bfs", "dfs", "best-first", "greedy", "mcts", "rap", "io"])
def test_a_check_without_end_does_not_outlive_the_limit_of_seconds(search: str) -> None:
    """Every search ends in time with its best attempt, whose verdict is unknown."""
    began = time.monotonic()
    result = solve(search)
    assert time.monotonic() - began < 3
    assert (result.ended, result.answer, result.solved) == ("seconds", "x", None)


def test_the_evaluator_verifier_does_not_hold_up_the_search_either() -> None:
    """It calls the same check."""
    began = time.monotonic()
    assert solve("bfs", "verifier").ended == "seconds"
    assert time.monotonic() - began < 3


def test_the_event_loop_goes_on_during_a_check() -> None:
    """Another search of the same program is solved meanwhile."""

    async def both() -> tuple[Result, Result]:
        task = YamlTask(TASK, Path("slow.yaml"), allow_code=True)
        slow, quick = (
            Agent(task, "io", backend=ScriptedBackend(lambda _, answer=answer: answer), budget=Budget(seconds=limit))
            for answer, limit in (("x", 1.0), ("4", 0.5))
        )
        one, other = await asyncio.gather(slow.asolve("2+2"), quick.asolve("2+2"))
        return one, other

    slow, quick = asyncio.run(both())
    assert (slow.ended, slow.solved, quick.ended, quick.solved) == ("seconds", None, "finished", True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the task, a script that answers x, and four problems."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.yaml").write_text(TASK)
    rules = ["{match: ^Value, text: sure}", "{match: '5\\+5|1\\+1', text: '4'}", "{match: ., text: x}"]
    (tmp_path / "rules.yaml").write_text("".join(f"- {rule}\n" for rule in rules))
    rows = [("1+1", "4"), ("3+1", "4"), ("5+5", "4"), ("1+1 again", "x")]
    lines = [f'{{"question": "{question}", "answer": "{answer}"}}\n' for question, answer in rows]
    (tmp_path / "sums.jsonl").write_text("".join(lines))
    return tmp_path


SCRIPT = ["--task", "slow.yaml", "--allow-code", "--backend", "scripted", "--model", "rules.yaml", "--search", "bfs"]


def test_an_answer_that_was_not_checked_in_time_is_none(folder: Path) -> None:
    """The answer is printed as not verified, and the exit code does not say that it is right."""
    done = call("solve", *SCRIPT, "-i", "2+2", "--max-seconds", "0.3")
    assert done.exit_code == 1
    assert "Answer: x  (not verified)" in done.stdout


def test_a_grading_without_end_is_the_failure_of_its_problem(folder: Path) -> None:
    """The others have their outcomes; the slow one says whose code is slow, and after how long."""
    began = time.monotonic()
    call("eval", *SCRIPT, "--out", "out", "--max-seconds", "0.3", "--at-once", "4")
    assert time.monotonic() - began < 10
    _, known, _ = read(folder / "out" / "outcomes.jsonl")
    assert (known[0].error, known[0].right) == (None, True)
    assert (known[1].ended, known[1].right) == ("seconds", True)  # graded by its gold answer
    for number in (2, 3):
        assert "the task 'slow' failed: TimeoutError: its code was still running after 1 s" in str(known[number].error)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_first_ctrl_c_ends_a_search_whose_check_does_not_end(folder: Path) -> None:
    """The best attempt is printed, and the process does not wait for its thread."""
    command = [sys.executable, "-m", "treeagent", "solve", *SCRIPT, "-i", "2+2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "2 calls" in line:  # judged: the check begins
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Answer: x  (not verified)" in out
