"""The command ``treeagent eval``: what it prints, refuses and compares, and that it goes on after a kill."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import call
from eval_tools import HANDS, invoke
from eval_tools import hands as hands  # noqa: PLC0414  the fixture
from helpers import write_end

from treeagent.evaluation.outcomes import read
from treeagent.runtime.journal import read as read_journal


def test_the_command_prints_accuracy_with_its_interval(hands: Path, tmp_path: Path) -> None:
    """For a person and as JSON, with a picture; the same command again runs nothing and prints the same."""
    words = ["--backend", "helpers:Oracle", "--data", str(hands), "--out", str(tmp_path / "out"), "--quiet"]
    first = invoke(*words, "--json", "--plot", str(tmp_path / "a.png"))
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert (found["accuracy"]["part"], found["accuracy"]["whole"], found["failed"]) == (6, 8, 0)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    again = invoke(*words)
    assert again.exit_code == 0
    assert "accuracy 75.0% [40.9% - 92.9%], 6 of 8 (8 of 8 problems run)" in again.stdout
    assert "ranks a good thought above a bad one in 1.000" in again.stdout
    assert "s this time" not in again.stdout  # nothing was run
    assert f"of these for judging: {found['judge_tokens']:,} tokens, {found['judge_calls']:,} calls" in again.stdout


def test_the_command_never_prints_a_bare_accuracy_with_failures(hands: Path, tmp_path: Path) -> None:
    """It says what it lies between, names the failure, and leaves with code 3."""
    result = invoke("--backend", "helpers:Oracle", "--set", "backend.fail_at=9", "--data", str(hands), "--at-once", "1")
    assert result.exit_code == 3, result.output
    assert "1 problem(s) FAILED, so the accuracy lies between" in result.stdout
    assert "accuracy 7" not in result.stdout
    assert "the oracle has been told to fail here" in result.stderr


def test_the_command_compares_two_runs(hands: Path, tmp_path: Path) -> None:
    """Problem by problem, with a test."""
    common = ["--backend", "helpers:Oracle", "--data", str(hands), "--quiet"]
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    assert invoke(*common, "--out", bad, "--model", "wrong").exit_code == 0
    result = invoke(*common, "--out", good, "--against", bad)
    assert result.exit_code == 0, result.output
    assert "on 8 common problems: +" in result.stdout
    assert "exact McNemar test p = " in result.stdout


def test_wrong_words_are_refused_before_anything_is_run(hands: Path, tmp_path: Path) -> None:
    """Other settings for the same folder, a folder without an evaluation, no such data."""
    words = ["--backend", "helpers:Oracle", "--data", str(hands), "--out", str(tmp_path / "out"), "--quiet"]
    assert invoke(*words, "--limit", "2").exit_code == 0
    other = invoke(*words, "--limit", "1")
    assert other.exit_code == 2
    assert "is another evaluation: its data.rows is [0, 1]" in other.output
    hands.write_text("\n".join(["1 1 4 6", *HANDS[1:]]) + "\n")
    changed = invoke(*words, "--limit", "2")
    assert changed.exit_code == 2
    assert "its data.digest is" in changed.output
    hands.write_text("\n".join(HANDS) + "\n")
    assert invoke(*words, "--limit", "2").exit_code == 0
    (tmp_path / "out" / "outcomes.jsonl").unlink()
    orphaned = invoke(*words, "--limit", "2")
    assert orphaned.exit_code == 2
    assert "they may be of another evaluation" in orphaned.output
    assert invoke(*words[:4], "--against", str(tmp_path / "nothing")).exit_code == 2
    assert invoke(*words[:2], "--data", "nothing.txt").exit_code == 2


def test_a_killed_evaluation_goes_on_without_repeating_or_losing_a_problem(hands: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle of a problem: no request is made twice, and every problem has its outcome."""
    log, gate, out = tmp_path / "log", tmp_path / "gate", tmp_path / "out"
    os.mkfifo(gate)
    words = [
        "eval", "--task", "game24", "--backend", "helpers:Oracle", "--data", str(hands), "--out", str(out),
        "--at-once", "1", "--quiet", "--set", f"backend.log={log}",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    stopping = ["--set", f"backend.gate={gate}", "--set", "backend.at=150"]
    process = subprocess.Popen([sys.executable, "-m", "treeagent", *words, *stopping], env=environment)
    end = write_end(gate, process)  # returns when that request is made
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(end)
    made = log.read_text().splitlines()
    assert len(made) == 150
    _, known, _ = read(out / "outcomes.jsonl")
    assert 0 < len(known) < len(HANDS)
    gate.unlink()
    # The gate is part of the backend's options, which are part of what is evaluated.
    again = subprocess.run(
        [sys.executable, "-m", "treeagent", *words, *stopping, "--json"], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["run"], found["accuracy"]["part"]) == (8, 6)
    asked = [
        event.data["id"]
        for journal in sorted((out / "journals").iterdir())
        for event in read_journal(journal)
        if event.type in ("completion", "scores")
    ]
    repeated = len(log.read_text().splitlines()) - len(asked)
    assert repeated == 1  # the one whose answer the kill swallowed


@pytest.mark.exhaustive
def test_the_commands_of_the_manual_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, with the bundled model, one after the other."""
    text = (Path(__file__).parent.parent / "docs" / "eval.md").read_text()
    outputs: dict[str, str] = {}
    monkeypatch.chdir(tmp_path)
    for command in "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines():
        name, *words = shlex.split(command)
        assert name == "treeagent"
        done = call(*words)
        assert done.exit_code == 0, done.output
        assert "accuracy" in done.stdout
        outputs[words[0]] = done.stdout
    assert outputs.keys() == {"eval", "anytime"}
    assert "exact McNemar test" in outputs["eval"]
    assert (tmp_path / "worth.png").exists()
