"""SIGTERM and SIGHUP end a command like Ctrl-C: the best attempt is printed, and what was written stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import ORACLE, blocked, call, spawn
from helpers import write_end

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO and signals of POSIX")
GRID = [(command, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") for command in ("eval", "compare")]
"""Every fifth: eval with SIGHUP, compare with SIGTERM."""


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """A process inherits ignored signals; under nohup the tests' own ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def number(name: str) -> int:
    """Of a signal."""
    return int(getattr(signal, name))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_first_signal_prints_the_best_attempt(name: str, tmp_path: Path) -> None:
    """Code 128 + n, as a shell says it; the journal has its end and can be resumed."""
    process, journal, end = blocked(tmp_path, at=30)
    process.send_signal(number(name))
    os.close(end)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number(name), err
    assert json.loads(out)["ended"] == "interrupted"
    assert json.loads(out)["path"]
    assert json.loads(journal.read_text().splitlines()[-1])["type"] == "end"
    assert call("resume", str(journal), "--allow-code").exit_code == 0


def test_ctrl_c_while_guesses_run_is_like_without(tmp_path: Path) -> None:
    """What was sent early is given up and counted, and the journal can be resumed."""
    process, journal, end = blocked(tmp_path, 20, "--search", "dfs", "--speculate", "8")
    process.send_signal(signal.SIGINT)
    os.close(end)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = json.loads(out)
    assert result["ended"] == "interrupted"
    assert result["speculated"]["misses"]
    early = [each for each in map(json.loads, journal.read_text().splitlines()) if each["type"] == "early"]
    hits, misses = (sum(result["speculated"][name].values()) for name in ("hits", "misses"))
    assert (hits, misses) == (sum(each["hit"] for each in early), sum(not each["hit"] for each in early))
    assert call("resume", str(journal), "--allow-code").exit_code == 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_second_signal_ends_at_once(name: str, tmp_path: Path) -> None:
    """Although the request never returns."""
    process, journal, end = blocked(tmp_path, at=30)
    process.send_signal(number(name))
    while process.poll() is None:  # a signal sent before the first has been handled merges with it
        process.send_signal(number(name))
    process.communicate()
    os.close(end)
    assert process.returncode == 128 + number(name)
    assert call("resume", str(journal), "--allow-code").exit_code == 0


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("command", "name"), GRID)
def test_eval_and_compare_stop_as_well(command: str, name: str, tmp_path: Path) -> None:
    """What is finished is reported and kept."""
    gate, data = tmp_path / "gate", tmp_path / "hands.txt"
    os.mkfifo(gate)
    data.write_text("4 9 10 13\n4 5 6 10\n")
    stop = ["--set", f"backend.gate={gate}", "--set", "backend.at=100", "--data", str(data)]
    words = {
        "eval": ["-b", "helpers:Oracle", "--at-once", "1", "--out", str(tmp_path / "out")],
        "compare": ["-b", "helpers:Oracle,helpers:Oracle"],
    }[command]
    process = spawn(command, "-t", "game24", *words, *stop)
    end = write_end(gate, process)  # returns once that request has been made
    gate.unlink()
    process.send_signal(number(name))
    os.close(end)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number(name), err
    assert "Interrupted: " in err
    if command == "eval":
        assert "1 of 2 problems run" in out


def test_a_signal_while_a_command_waits_for_its_input_is_a_plain_end() -> None:
    """Nothing has begun: one line and the code."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from treeagent.cli import main; main()", "solve", "-t", "game24", "-i", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "Reading inputs from standard input" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert process.stderr.read() == "Interrupted.\n"
    process.communicate()


def test_a_process_that_ignores_sighup_goes_on(tmp_path: Path) -> None:
    """As under ``nohup``: the search ends by itself."""
    journal, gate = tmp_path / "run.jsonl", tmp_path / "gate"
    os.mkfifo(gate)
    options = ["--set", f"backend.gate={gate}", "--set", "backend.at=30"]
    command = [sys.executable, "-m", "treeagent", "solve", *ORACLE, *options, "--journal", str(journal)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command], env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = write_end(gate, process)
    process.send_signal(signal.SIGHUP)
    os.close(end)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "(solved)" in out


@pytest.mark.parametrize("start", [["-m", "treeagent"], ["-c", "from treeagent.__main__ import main; main()"]])
def test_ctrl_c_while_the_command_line_is_imported_is_a_plain_end(start: list[str], tmp_path: Path) -> None:
    """It ends by the signal and says nothing."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("this process ignores Ctrl-C, and so do its children")
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *start, "--help"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_that_a_library_swallows_is_an_interrupt(name: str, tmp_path: Path) -> None:
    """Its import fails in a way of its own then, which is not the user's fault."""
    (tmp_path / "swallowing.py").write_text(
        f"import os, signal\ntry:\n    os.kill(os.getpid(), signal.{name})\n    print(*range(1000))\n"
        "except BaseException:\n    raise ImportError('cannot load module more than once per process') from None\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "treeagent", "solve", "-t", "game24", "-b", "swallowing:Backend", "-i", "1 2 3 4"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number(name)
    assert "Interrupted." in done.stderr
    assert "more than once" not in done.stderr
