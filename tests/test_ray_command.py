"""``treeagent eval --workers ray`` as a process that starts Ray itself: what it prints, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deadly import Deadly
from helpers import write_end
from ray_tools import EVAL, HANDS, answers, environment, timeless
from ray_tools import hands as hands  # noqa: PLC0414  the fixture

from treeagent.evaluation.outcomes import read

pytest.importorskip("ray")


@pytest.mark.exhaustive
def test_standard_output_is_the_json_alone_where_a_replica_dies(hands: Path, tmp_path: Path) -> None:
    """Ray prints a message about the death to the command's standard output, which goes to standard error instead."""
    words = [
        sys.executable, "-m", "treeagent", *EVAL, "--backend", "deadly:Deadly", "--allow-code", "--data", str(hands),
        "--json", "--workers", "ray", "--set", f"backend.log={tmp_path / 'log'}", "--set", "backend.kill_at=9",
    ]  # fmt: skip
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]["task"] == "game24"


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO")
def test_ctrl_c_ends_the_replicas_and_the_same_command_continues(hands: Path, tmp_path: Path) -> None:
    """As a terminal sends it, to all processes; here it continues without Ray, and repeats no answered request."""
    out, log, gate = tmp_path / "out", tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    options = {"log": log, "gate": gate, "at": 60}
    words = [
        sys.executable, "-m", "treeagent", *EVAL, "--backend", "helpers:Oracle", "--allow-code", "--data", str(hands),
        "--out", str(out), "--workers", "ray", *(f"--set=backend.{name}={value}" for name, value in options.items()),
    ]  # fmt: skip
    process = subprocess.Popen(words, env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True)
    end = write_end(gate, process)  # returns when that request is made
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    os.close(end)
    assert process.returncode == 130
    assert "Interrupted: " in error
    assert "Traceback" not in error
    gate.unlink()
    words = [word for word in words if word not in ("--workers", "ray")]
    again = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert timeless(read(out / "outcomes.jsonl")[1]).keys() == set(range(len(HANDS)))
    assert answers(out / "journals") < len(Deadly.requests(log)) < answers(out / "journals") + 60
