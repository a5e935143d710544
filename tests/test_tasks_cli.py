"""``treeagent tasks``: list, show, new, validate."""

from __future__ import annotations

import pytest
from cli_tools import call


def test_list_names_every_task_with_its_description():
    """One line a task."""
    lines = dict(line.split(maxsplit=1) for line in call("tasks", "list").stdout.splitlines())
    assert lines["game24"].startswith("Make 24 from four whole numbers")
    assert set(lines) == {
        "arithmetic_tools",
        "blocksworld",
        "creative_writing",
        "crosswords",
        "game24",
        "gsm8k",
        "prontoqa",
    }


def test_show_renders_every_prompt_for_the_first_example():
    """Description, input form and prompts as the model would see them."""
    out = call("tasks", "show", "game24").stdout
    assert "four whole numbers from 1 to 13" in out
    assert "--- propose" in out
    assert "Numbers: 4 9 10 13" in out
    assert "{{" not in out


def test_show_renders_with_the_variables_given():
    """``--var`` reaches the prompts."""
    assert "Numbers: 2 8 14" not in call("tasks", "show", "game24").stdout
    assert "Numbers: 2 8 14" in call("tasks", "show", "game24", "--var", "shots=true").stdout


def test_new_writes_a_task_that_validates_and_solves(tmp_path):
    """The file is complete: it passes validation and a search over it finds a right answer."""
    made = call("tasks", "new", "mine", "--dir", str(tmp_path / "deep"))
    path = tmp_path / "deep" / "mine.yaml"
    assert f"treeagent solve --task {path}" in made.stdout
    checked = call("tasks", "validate", str(path))
    assert checked.exit_code == 0
    searches = "ab-mcts, beam, best-first, bfs, bg-mcts, chain-in-tree, dfs, dvts, greedy, mcts, particle-filter, rap"
    assert f"searches: {searches}, rebase" in checked.stdout
    solved = call("solve", "-t", str(path), "-b", "helpers:Oracle")
    assert solved.exit_code == 0
    assert "Answer: 10 - 4 = 6 (left: 4 6), then 4 * 6 = 24 (left: 24)" in solved.stdout


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("10 - 4 = 6 (left: 4 6)", 1),
        ("10 - 4 = 7 (left: 4 7)", 0),  # wrong arithmetic
        ("10 - 4 = 6 (left: 4 4 6)", 0),  # a number too many
        ("10 - 5 = 5 (left: 4 5)", 0),  # a number that is not there
        ("4 / 4 = 1 (left: 1 10)", 1),
        ("10 / 4 = 2 (left: 2 4)", 0),  # not a whole number
    ],
)
def test_the_new_task_drops_illegal_steps_without_python(tmp_path, step, kept):
    """Its one Jinja condition is an exact check."""
    from treeagent import Task

    call("tasks", "new", "mine", "--dir", str(tmp_path))
    task = Task.load(tmp_path / "mine.yaml")
    input = task.read_input("10 4 4")
    pieces = task.read_thoughts("propose", step, input, task.root(input), [])
    assert sum(piece.fault is None for piece in pieces) == kept


def test_a_task_file_given_without_its_ending_is_found(tmp_path, monkeypatch):
    """As the file that was meant, for there is no task of that name."""
    monkeypatch.chdir(tmp_path)
    assert call("tasks", "new", "mine").exit_code == 0
    assert "There is a file of that name: give ./mine.yaml" in call("tasks", "validate", "mine").output


def test_new_refuses_to_overwrite_and_to_write_odd_names(tmp_path):
    """What is there stays there."""
    path = tmp_path / "mine.yaml"
    path.write_text("my work")
    result = call("tasks", "new", "mine", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert path.read_text() == "my work"
    assert call("tasks", "new", "../mine", "--dir", str(tmp_path)).exit_code == 2


FAULTY = """name: faulty
description: Several faults.
metadata: {version: 1}
input:
  description: anything
  examples: [hello]
depth: 1
prompts:
  propose: |
    Say
    {{ stat }}
  value: "{{ input "
"""


def test_validate_reports_every_problem_with_file_line_and_key(tmp_path):
    """All at once, each with its place and the nearest valid name."""
    path = tmp_path / "faulty.yaml"
    path.write_text(FAULTY)
    result = call("tasks", "validate", str(path))
    assert result.exit_code == 2
    assert f"{path}:11:prompts.propose: unknown variable 'stat'. Did you mean 'state'?" in result.stderr
    assert f"{path}:12:prompts.value: not a valid template" in result.stderr


def test_validate_reports_unknown_keys_with_the_nearest_valid_one(tmp_path):
    """Schema faults come together too."""
    path = tmp_path / "faulty.yaml"
    path.write_text(FAULTY.replace("depth: 1", "dept: 1").replace("  value:", "  valeu:"))
    result = call("tasks", "validate", str(path))
    assert result.exit_code == 2
    assert f"{path}:7:dept: unknown key. Did you mean 'depth'?" in result.stderr
    assert f"{path}:12:prompts.valeu: unknown key. Did you mean 'value'?" in result.stderr
    assert "depth: this key is missing" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [unclosed\n", "not valid YAML"),
        ("- a\n- b\n", "a task file is a mapping"),
        ("", "a task file is a mapping"),
        ("name: a\nname: b\n", "given twice"),
    ],
)
def test_malformed_yaml_is_reported_with_its_line(tmp_path, text, said):
    """For validate and for solve alike."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for words in (["tasks", "validate", str(path)], ["solve", "-t", str(path)]):
        result = call(*words)
        assert result.exit_code == 2
        assert said in result.stderr
        assert f"{path}:" in result.stderr


def test_validate_reads_the_data_file_too(tmp_path):
    """A data file that is not there, or whose rows are no inputs, is a problem of the task."""
    path = tmp_path / "mine.yaml"
    call("tasks", "new", "mine", "--dir", str(tmp_path))
    path.write_text(path.read_text() + "\ndata: {file: rows.txt}\n")
    assert "cannot read the data file" in call("tasks", "validate", str(path)).stderr
    (tmp_path / "rows.txt").write_text("4 4 10\n4 4\n4 x 10\n")
    result = call("tasks", "validate", str(path))
    assert f"{tmp_path / 'rows.txt'}:2: " in result.stderr
    assert f"{tmp_path / 'rows.txt'}:3: " in result.stderr


def test_validate_says_what_a_task_cannot_do_and_why():
    """game24 can do everything; a task without a checker names what is missing."""
    out = call("tasks", "validate", "game24").stdout
    assert "verified exactly" in out
    assert "not " not in out.split("searches:")[1].split("\n")[0]


def test_code_outside_the_registry_needs_permission(tmp_path):
    """A task file cannot run code unless the command line says so."""
    call("tasks", "new", "mine", "--dir", str(tmp_path))
    path = tmp_path / "mine.yaml"
    path.write_text(path.read_text() + "\nchecker: os:system\n")
    assert "--allow-code" in call("tasks", "validate", str(path)).stderr
    assert "not a treeagent.Checker" in call("tasks", "validate", str(path), "--allow-code").stderr


def test_faults_of_the_schema_do_not_hide_those_of_the_templates(tmp_path):
    """One run lists an unknown key, a wrong type and an undefined variable together."""
    path = tmp_path / "faulty.yaml"
    path.write_text(FAULTY.replace("depth: 1", "depth: 1\ndept: 2\nsampling: {propose: {temperature: hot}}"))
    said = call("tasks", "validate", str(path)).stderr
    assert f"{path}:8:dept: unknown key" in said
    assert f"{path}:9:sampling.propose.temperature: " in said
    assert f"{path}:13:prompts.propose: unknown variable 'stat'" in said
    assert f"{path}:14:prompts.value: not a valid template" in said
