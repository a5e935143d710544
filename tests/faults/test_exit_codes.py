"""Exit codes of real processes: a crash is no answer, a lost message loses nothing, a lost result is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import ORACLE, TESTS, call, spawn

from treeagent.evaluation.outcomes import read

CRASH = """
import treeagent.cli.session as session
from treeagent.cli import main
def report(*words): raise {error}('a bug')
session.report = report
main()
"""


def crash(error: str) -> subprocess.CompletedProcess[str]:
    """A solve in which treeagent itself fails."""
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", CRASH.format(error=error), "solve", *ORACLE]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("error", ["BrokenPipeError", "KeyError", "EOFError", "RecursionError"])
def test_a_crash_has_a_code_of_its_own(error: str) -> None:
    """Not 1, which means no answer; with the traceback and whom to tell."""
    done = crash(error)
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "a fault of treeagent. Please report it" in done.stderr


def test_a_plug_ins_fault_is_no_crash() -> None:
    """One line, code 3, no traceback."""
    words = ["-t", "game24", "-b", "faulty:BrokenBackend", "-i", "4 9 10 13"]
    process = spawn("solve", *words)
    _, err = process.communicate()
    assert process.returncode == 3
    assert "This is a fault of the backend." in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes of POSIX")
def test_a_closed_standard_error_loses_messages_only(tmp_path: Path) -> None:
    """The reader of messages goes away, or there was none from the start."""
    journal = tmp_path / "run.jsonl"
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "treeagent", "solve", *ORACLE, "--json", "--journal", str(journal)]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=write_end, stdin=subprocess.DEVNULL, check=False
    )
    os.close(write_end)
    assert done.returncode == 0
    assert json.loads(done.stdout)["solved"] is True
    journal.unlink()
    closed = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command],
        env=env,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert closed.returncode == 0
    assert json.loads(closed.stdout)["solved"] is True
    assert call("resume", str(journal), "--allow-code").exit_code == 0  # no message went into the journal


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes of POSIX")
@pytest.mark.sampled(3)
@pytest.mark.parametrize("how", ["pipe", "closed", "full"])
def test_a_failing_standard_output_is_said_and_the_journal_is_whole(how: str, tmp_path: Path) -> None:
    """Code 74, one line, no traceback."""
    if how == "full" and not Path("/dev/full").exists():
        pytest.skip("there is no device that is full")
    journal = tmp_path / "run.jsonl"
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "treeagent", "solve", *ORACLE, "--journal", str(journal)]
    ends = {"closed": '"$@" >&-', "full": '"$@" >/dev/full', "pipe": '"$@"'}[how]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        ["sh", "-c", ends, "sh", *command], env=env, stdout=write_end, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    os.close(write_end)
    assert done.returncode == 74, done.stderr
    assert "Error: cannot write standard output" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert json.loads(journal.read_text().splitlines()[-1])["type"] == "end"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_an_evaluation_writes_its_files_before_it_prints(tmp_path: Path) -> None:
    """The outcomes are there although the report could not be printed; the error of a backend is said, too."""
    data, out = tmp_path / "hands.txt", tmp_path / "out"
    data.write_text("4 9 10 13\n1 1 1 1\n")
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "treeagent", "eval", "-t", "game24", "-b", "helpers:Oracle", "--data", str(data)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command, "--out", str(out)], env=env, stdout=full, stderr=subprocess.PIPE, check=False)
        words = [*ORACLE, "--set", "backend.fail_at=5"]
        failed = subprocess.run(
            [*command[:3], "solve", *words], env=env, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 74
    assert len(read(out / "outcomes.jsonl")[1]) == 2
    assert failed.returncode == 74
    assert b"told to fail here" in failed.stderr
