"""The command line as tests call it: in this process, in one of its own, and one that waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers import write_end
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.cli.arguments import EXIT_CODES

TESTS = Path(__file__).parent
ORACLE = ["--task", "game24", "--backend", "helpers:Oracle", "--input", "4 9 10 13"]


def call(*words: str, stdin: str = ""):
    """Run a command in this process; anything but a documented exit is a bug and is raised."""
    result = CliRunner().invoke(app, list(words), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    assert result.exit_code in EXIT_CODES
    return result


def spawn(*words: str, **how) -> subprocess.Popen[str]:
    """Run a command in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from treeagent.cli import main; main()", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=env, **how)


def same(result: dict) -> dict:
    """A result without what may differ from run to run."""
    return {key: value for key, value in result.items() if key not in ("seconds", "settings")}


def blocked(tmp_path: Path, at: int, *more: str) -> tuple[subprocess.Popen[str], Path, int]:
    """A solve that has made ``at`` requests and waits in the last one until the file descriptor is closed."""
    journal, gate = tmp_path / "run.jsonl", tmp_path / "gate"
    os.mkfifo(gate)
    options = ["--set", f"backend.gate={gate}", "--set", f"backend.at={at}", "--set", f"backend.log={tmp_path / 'log'}"]
    process = spawn("solve", *ORACLE, *options, *more, "--json", "--journal", str(journal))
    end = write_end(gate, process)  # returns once the request has opened the other end
    gate.unlink()  # a resumed run finds no gate
    return process, journal, end


ECHO = """
name: echo
description: Say something.
metadata: {version: 1}
input: {description: anything, examples: [hello]}
depth: 1
prompts: {io: "{{ input }}"}
"""
