"""``treeagent bench``: every way of transformers on a tiny model, its file and its exit codes. No time is asserted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from bench_runs import TRANSFORMERS, app, run
from bench_runs import folder as folder  # noqa: PLC0414  the fixture
from rich.console import Console
from typer.testing import CliRunner

from treeagent.backends.bench.config.modes import PLAIN, SERIAL
from treeagent.backends.bench.runners import generate as generating
from treeagent.display.board import StepBoard
from treeagent.errors import ConfigError, TreeagentError


@pytest.fixture(scope="module")
def measured(folder):
    """Every mode of transformers and the plain backend, in float64; what was printed, and the file."""
    out = folder / "out.json"
    result = run(
        folder, "--draft", str(folder / "draft"), "--dtype", "float64", "--repeat", "2", "--branches", "1,4", "--json",
        str(out), "--plot", str(folder / "out.png"), modes=[*TRANSFORMERS, PLAIN],
    )  # fmt: skip
    return result, json.loads(out.read_text())


def test_all_ways_to_decode_give_the_same_tokens(measured):
    """Serial, batched, by lookup, assisted, continuous and the plain backend, with texts that end early."""
    result, found = measured
    assert result.exit_code == 0, result.output
    rows = [row for cell in found["cells"] for row in cell["rows"]]
    assert {row["mode"] for row in rows} == {*TRANSFORMERS, PLAIN}
    assert all(row["equal"] == row["compared"] == row["branches"] and row["exact"] for row in rows)
    assert {run["digest"] for run in found["cells"][1]["runs"]} == {*found["cells"][1]["references"]}
    assert rows[-1]["tokens"] < 4 * 12


def test_the_file_holds_everything(measured, folder):
    """Machine, workload, settings, medians, and every run's seconds."""
    _, found = measured
    assert found["machine"]["threads"] == 1
    assert found["machine"]["torch"]
    assert found["settings"]["branches"] == [cell["branches"] for cell in found["cells"]] == [1, 4]
    assert found["settings"]["dtype"] == "float64"
    assert found["settings"]["reference"]["mode"] == found["settings"]["baseline"] == SERIAL
    for cell in found["cells"]:
        assert len(cell["runs"]) == 2 * 7
        for row in cell["rows"]:
            own = [run["seconds"] for run in cell["runs"] if run["mode"] == row["mode"]]
            assert row["seconds"] == pytest.approx(sum(own) / 2)
            assert len(row["ratios"]) == 2
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_and_the_progress_can_be_read(measured):
    """Every mode in full on standard output, every step on standard error."""
    result, _ = measured
    for mode in (*TRANSFORMERS, PLAIN):
        assert mode in result.stdout
    assert "4/4" in result.stdout
    assert "[1/28] transformers-serial, 1 branches, repeat 1 of 2 ..." in result.stderr
    assert "tokens/s" in result.stderr


def test_samples_are_held_against_the_keyed_backend(folder):
    """At a positive temperature transformers' own modes draw their own noise, and everything else is the same."""
    words = ["--temperature", "1", "--top-k", "20", "--top-p", "0.9", "-q", "--reopen"]
    result = run(folder, *words, modes=[PLAIN, SERIAL, "transformers-batched"])
    assert result.exit_code == 0, result.output
    assert "4/4" in result.stdout
    assert result.stdout.count("own noise") == 2
    assert result.stderr == ""


def test_a_rounded_type_is_reported_and_is_no_error(folder):
    """In bfloat16 the reference is still that of float32, made untimed."""
    result = run(folder, "--dtype", "bfloat16", modes=["transformers-batched"], tokens=6)
    assert result.exit_code == 0, result.output
    assert "reference, untimed: transformers-serial in float32" in result.stderr
    assert re.search(r"\d/4 │", result.stdout)


def test_a_wrong_token_is_found(folder, monkeypatch):
    """The mode is marked, the first difference is printed with its gap, and the exit code is 1."""
    real = generating.GenerateRunner._batched

    def spoiled(*arguments):
        rows = real(*arguments)
        if len(rows) > 1:
            rows[2][1] += 1
        return rows

    monkeypatch.setattr(generating.GenerateRunner, "_batched", spoiled)
    result = run(folder, "-q", modes=[SERIAL, "transformers-batched"])
    assert result.exit_code == 1
    assert "3/4 DIFFERS" in result.stdout
    assert re.search(r"prompt 2, position 1: expected token \d+, got token \d+; .* lie [\d.e-]+ apart", result.stdout)


def test_the_other_modes_run_after_one_fails(folder, tmp_path, monkeypatch):
    """Its row says so, the reason follows the table, and the exit code is 3."""

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(generating.GenerateRunner, "_batched", broken)
    result = run(folder, "-q", modes=[SERIAL, "transformers-batched"])
    assert result.exit_code == 3
    assert "transformers-batched failed: RuntimeError: out of memory" in result.stdout
    assert "4/4" in result.stdout
    with pytest.raises(TreeagentError, match="out of memory"):
        run(folder, "-q", "--no-check", modes=["transformers-batched"])


def test_what_was_measured_before_ctrl_c_is_shown(folder, monkeypatch):
    """The table has the modes that were done."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generating.GenerateRunner, "_batched", interrupted)
    common = ["--model", str(folder / "model"), "--prompts", str(folder / "prompts.txt"), "--max-tokens", "4"]
    result = CliRunner().invoke(app, [*common, "-q", "--modes", f"{SERIAL},transformers-batched"])
    assert result.exit_code != 0
    assert SERIAL in result.stdout
    assert "│ transformers-batched" not in result.stdout


def test_prompts_that_do_not_fit_are_refused(folder):
    """Modes would end their texts in different places."""
    with pytest.raises(ConfigError, match="--max-tokens"):
        run(folder, "-q", modes=[SERIAL], tokens=250)


def test_help_needs_no_torch():
    """Importing the command is light."""
    heavy = ("torch", "transformers", "rich.table", "matplotlib", "numpy")
    code = f"import sys, treeagent.backends.bench.command; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_progress_on_a_terminal_leaves_nothing_behind():
    """A bar while a step runs, lines that stay beside it."""
    console = Console(force_terminal=True, width=80, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    board = StepBoard(console, steps=1)
    with board.step("a step", 2) as step:
        step.advance()
    board.say("done")
    console.file.close()
