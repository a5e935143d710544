"""The command line: results, exit codes and bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_tools import ECHO, ORACLE, TESTS, call


def test_solve_prints_the_path_the_answer_and_the_bill():
    """A solved input prints numbered steps with values, the answer with its verdict, and what it cost; exit code 0."""
    result = call("solve", *ORACLE)
    assert result.exit_code == 0
    assert "  1. " in result.stdout
    assert "value 20" in result.stdout
    assert "(solved)" in result.stdout
    assert "76 calls" in result.stdout
    assert "dollars unknown" in result.stdout
    assert "15 duplicates merged" in result.stdout


def test_json_is_one_object_on_standard_output_and_nothing_else():
    """``--json`` leaves standard output to one object with the documented keys."""
    result = call("solve", *ORACLE, "--json", "--seed", "7", "--set", "b=2")
    found = json.loads(result.stdout)
    assert found["solved"] is True
    assert found["seed"] == 7
    assert found["settings"]["search"]["b"] == 2
    assert len(found["path"]) == 3


def test_a_backends_own_figures_are_printed_where_it_keeps_some(monkeypatch):
    """As lines of the summary that fit the terminal, and whole under ``engine`` of the JSON; else nothing is said."""
    monkeypatch.setenv("COLUMNS", "60")
    words = ["solve", "-t", "game24", "-b", "metered:Metered", "-i", "4 9 10 13"]
    lines = call(*words).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("engine: tokens per second 301"))
    assert all(len(line) <= 60 for line in lines[start:])
    assert json.loads(call(*words, "--json").stdout)["engine"]["requests"] == 76
    assert "engine" not in call("solve", *ORACLE).stdout
    assert json.loads(call("solve", *ORACLE, "--json").stdout)["engine"] == {}


def test_the_summary_has_the_figures_that_the_backend_names(monkeypatch):
    """The others are in the JSON alone; where one of several backends names none, all are shown."""
    monkeypatch.setattr("metered.Metered.headline", ("requests",))
    words = ["solve", "-t", "game24", "-b", "metered:Metered", "-i", "4 9 10 13"]
    assert call(*words).stdout.splitlines()[-1] == "engine: requests 76"
    assert json.loads(call(*words, "--json").stdout)["engine"]["tokens_per_second"] == 301.234
    judged = call(*words, "--evaluator-backend", "helpers:Oracle").stdout
    assert "engine: tokens per second 301" in judged


def test_a_model_that_cannot_be_loaded_is_the_error_alone():
    """No search began, so there is no attempt to show; the JSON is printed all the same."""
    words = ["solve", "-t", "game24", "-i", "4 9 10 13", "-m", "./missing"]
    result = call(*words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "there is no model at" in result.stderr
    assert json.loads(call(*words, "--json").stdout)["ended"] == "failed"


def test_an_unsolvable_input_is_an_ordinary_end_with_exit_code_1():
    """Where no verified answer is found the best attempt is printed and the exit code is 1."""
    result = call("solve", "-t", "game24", "-b", "helpers:Oracle", "-i", "1 1 1 1")
    assert result.exit_code == 1
    assert "1. 1 + 1 = 2" in result.stdout


def test_several_lines_on_standard_input_are_several_results(tmp_path):
    """One JSON line per input, one journal per input, and the worst exit code of all."""
    words = ["solve", "-t", "game24", "-b", "helpers:Oracle", "--json", "--journal", str(tmp_path / "run.jsonl")]
    result = call(*words, stdin="4 9 10 13\n\n1 1 1 1\n")
    assert [json.loads(line)["solved"] for line in result.stdout.splitlines()] == [True, False]
    assert result.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.1.jsonl", "run.2.jsonl"]
    (tmp_path / "run.1.jsonl").unlink()
    again = call(*words, stdin="4 9 10 13\n1 1 1 1\n")
    assert again.exit_code == 2  # before the first input costs anything
    assert "run.2.jsonl exists already" in again.stderr


def test_without_an_input_the_first_example_is_solved_and_named():
    """Without input the task's first example is used, and a line says so."""
    result = call("solve", "-t", "game24", "-b", "helpers:Oracle")
    assert result.exit_code == 0
    assert "taking the first example of game24: 4 9 10 13" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["solve", "-t", "game42", "-i", "1 2 3 4"], "Did you mean 'game24'?"),
        (["solve", *ORACLE, "--search", "bsf"], "Did you mean 'bfs'?"),
        (["solve", "-t", "game24", "-i", "4 9 10 13", "-b", "replai"], "Did you mean 'replay'?"),
        (["solve", *ORACLE, "-e", "valve"], "Did you mean 'value'?"),
        (["solve", *ORACLE, "--set", "bb=5"], "has no option 'bb'. Did you mean 'b'?"),
        (["solve", *ORACLE, "--set", "b=five"], "option 'b'"),
        (["solve", *ORACLE, "--set", "b=0"], "option 'b'"),
        (["solve", *ORACLE, "--set", "b"], "expected NAME=VALUE"),
        (["solve", *ORACLE, "--set", "b=1", "--set", "b=2"], "given twice"),
        (["solve", *ORACLE, "--var", "shoots=true"], "Did you mean 'shots'?"),
        (["solve", *ORACLE, "--var", "shots=maybe"], "must be of type bool"),
        (["solve", *ORACLE, "--max-tokens", "-1"], "must be 0 or more"),
        (["solve", *ORACLE, "--max-dollars", "1"], "price"),
        (["solve", "-t", "game24", "-b", "helpers:Oracle", "-i", "4 9 ten"], "which wants four whole numbers"),
        (["solve", "-t", "game24", "-b", "helpers:Oracle", "-i", "  "], "the input is empty"),
        (["solve", "-t", "game24", "-b", "helpers:Oracle", "-i", "-"], "the input is empty"),
        (["solve", "-t", "game24", "-b", "helpers:Oracle", "-i", "4 9 10 13", "-i", "x"], "input 2 of 2"),
        (["solve", "-t", "missing.yaml", "-i", "1"], "cannot read the task file missing.yaml"),
        (["solve", "-t", "game24", "-b", "no_such_module:Oracle", "-i", "4 9 10 13"], "cannot import the backend"),
        (["solve", "-t", "game24", "-b", ":", "-i", "4 9 10 13"], "cannot import the backend"),
        (["solve", "-t", "game24", "-b", "helpers:spell", "-i", "4 9 10 13"], "is no backend"),
        (["solve", *ORACLE, "--journal", "/no/such/folder/run.jsonl"], "cannot write the journal"),
        (["solve", *ORACLE, "--row", "hint=1"], "game24 reads no field 'hint' of a data row"),
        (["eval", "-t", "game24", "-b", "helpers:Oracle", "--start", "999"], "none is left after the first 999"),
        (["solve", *ORACLE, "--no-such-option"], "No such option"),
        (["resume", "missing.jsonl"], "cannot read the journal missing.jsonl"),
        (["export", "missing.jsonl"], "cannot read the journal missing.jsonl"),
        (["models", "fetch", "smollm"], "Did you mean 'smollm2'?"),
    ],
)
def test_bad_input_is_one_clear_error_with_exit_code_2(words, said):
    """Wrong names offer the nearest valid one; nothing wrong on the command line ends in a traceback."""
    result = call(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


@pytest.mark.parametrize("limit", ["--max-calls", "--max-tokens", "--max-nodes", "--max-seconds"])
def test_a_budget_of_0_is_an_ordinary_end(limit):
    """Nothing can be found for nothing: exit code 1, and the reason is printed."""
    result = call("solve", *ORACLE, limit, "0")
    assert result.exit_code == 1
    assert "No solution found." in result.stdout
    assert f"the budget of {limit.removeprefix('--max-')} is used up" in result.stdout


@pytest.mark.parametrize("role", ["propose", "value", "answer"])
def test_completions_that_never_parse_are_counted_and_end_the_search(role):
    """A model that talks nonsense leaves no thought, no judgement or no answer; the counts say which."""
    result = call("solve", *ORACLE, "--json", "--set", f"backend.spoil={role}")
    found = json.loads(result.stdout)
    assert found["counts"]["judgements_unparsed" if role == "value" else "unparsed"] > 0
    assert result.exit_code in ((0, 1) if role == "value" else (1,))


def test_a_failing_backend_prints_the_best_attempt_and_exits_with_3(tmp_path):
    """What was found before the failure is printed, and the journal can be resumed."""
    journal = tmp_path / "run.jsonl"
    result = call("solve", *ORACLE, "--set", "backend.fail_at=40", "--journal", str(journal))
    assert result.exit_code == 3
    assert "Best attempt:" in result.stdout
    assert "told to fail" in result.stderr
    assert f"treeagent resume {journal}" in result.stderr


def test_a_journal_is_never_overwritten(tmp_path):
    """A second run into the same file is refused, and the first stays as it was."""
    journal = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(journal))
    before = journal.read_bytes()
    result = call("solve", *ORACLE, "--journal", str(journal))
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert journal.read_bytes() == before


def test_help_imports_nothing_heavy():
    """``treeagent --help`` needs neither torch, pydantic nor rich, nor any third party's plug-in."""
    code = "import sys; from treeagent.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "transformers", "pydantic", "numpy", "networkx", "matplotlib", "jinja2", "yaml", "rich"}
    assert not heavy & set(out.split())
    assert not [name for name in out.split() if name.startswith("treeagent.backends")]


def test_the_list_of_commands_is_not_cut():
    """The first paragraph of each command's help is whole."""
    out = " ".join(call("--help").stdout.split())
    assert "Continue a run from its journal without repeating any request that the journal answers." in out
    assert "..." not in out.partition("Commands:")[2]


def test_plugins_lists_options_with_their_defaults():
    """Every registered part is there with what ``--set`` may set."""
    out = call("plugins").stdout
    assert "  bfs: " in out
    assert "b=5 (int)" in out
    assert "replay: " in out


def test_a_module_of_the_current_folder_can_be_named(tmp_path, monkeypatch):
    """``module:Class`` reaches a file beside the user, which can never hide an installed module."""
    (tmp_path / "beside.py").write_text("from helpers import Oracle\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert call("solve", "-t", "game24", "-b", "beside:Oracle", "-i", "4 9 10 13").exit_code == 0
    assert sys.path[-1] == str(tmp_path)


def test_control_characters_of_a_model_do_not_reach_the_terminal(tmp_path):
    """An escape sequence in a completion is shown as replacement characters."""
    (tmp_path / "echo.yaml").write_text(ECHO)
    (tmp_path / "script.yaml").write_text('- {match: ".", text: "\\e[31mred"}\n')
    backend = ["-b", "scripted", "-m", str(tmp_path / "script.yaml")]
    result = call("solve", "-t", str(tmp_path / "echo.yaml"), "-s", "io", *backend, "-i", "hello")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "[31mred" in result.stdout


@pytest.mark.parametrize(("model", "code"), [("smollm", 2), ("./nope", 3), (__file__, 3), (str(TESTS), 3)])
def test_a_wrong_model_name_and_a_missing_model_have_codes_of_their_own(model, code):
    """A wrong name is a wrong configuration; a path without a model is a backend that cannot start."""
    result = call("solve", "-t", "game24", "-i", "4 9 10 13", "-m", model)
    assert result.exit_code == code
    assert model.removeprefix("./") in result.stderr
