"""``tasks validate`` checks sense: what can be run and is probably a mistake is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tools import call

from treeagent import Task, YamlTask, registry
from treeagent.patterns import Pattern
from treeagent.taskfile import advice

TASK = r"""name: sums
description: Adds.
metadata: {version: 1}
input: {description: anything, examples: ["1 2", "3 4"]}
depth: 1
prompts: {propose: "Add, as in 4 + 5 = 9 does.\n4 + 5 = 9\nNow {{ input }}:\n", value: "V {{ state }}"}
thought: {pattern: '(?P<a>\d+) \+ (?P<b>\d+) = (?P<c>\d+)', legal: "a | int + b | int == c | int"}
answer: {pattern: '(?P<answer>\d+)'}
"""


def validated(path: Path, text: str, code: int = 0) -> str:
    """What ``tasks validate`` says on standard error."""
    path.write_text(text)
    result = call("tasks", "validate", str(path))
    assert result.exit_code == code, result.stderr
    assert ("no problem found" in result.stdout) == (code == 0)
    return result.stderr


def test_a_sound_task_gets_no_warning(tmp_path: Path) -> None:
    """Nor does any bundled task, nor the one that ``tasks new`` writes."""
    assert validated(tmp_path / "sums.yaml", TASK) == ""
    call("tasks", "new", "mine", "--dir", str(tmp_path))
    for name in (*registry.task_names(), tmp_path / "mine.yaml"):
        assert advice.warnings(Task.load(name)) == []
        assert advice.failing(Task.load(name)) == []


WARNED = [
    (
        "answer:",
        "evaluate: {labels: {Sure: 1.0, no way: 0.5, sure: 0.0}}\nanswer:",
        "8:evaluate.labels.sure",
        "differs from 'Sure' in nothing but case or blanks",
    ),
    # old, new, place, message
    ("Now {{ input }}", "Now {input}", "6:prompts.propose", "{input} stays as it is; a field is written {{ input }}"),
    ("Now {{ input }}", "Now {input}", "6:prompts.propose", "the prompt is the same for every example"),
    ("Now {{ input }}", "Now {steps} {{ input }}", "6:prompts.propose", "a field is written {{ steps }}"),
    ("Now {{ input }}", "Now", "6:prompts.propose", "the prompt is the same for every example"),
    ("Now {{ input }}", "{% if false %}{{ input }}{% endif %}", "6:prompts.propose", "the same for every example"),
    ("V {{ state }}", "Is it good?", "6:prompts.value", "the prompt is the same for every example"),
    ("V {{ state }}", "", "6:prompts.value", "the prompt is empty"),
    (r"'(?P<answer>\d+)'", r"'\d+'", "8:answer.pattern", "there is no group (?P<answer>...)"),
    (r"(?P<answer>\d+)", r"(?P<answer>(\w+\s?)+\.)", "8:answer.pattern", "nested quantifiers"),
    ('["1 2", "3 4"]', r'["1 2", "3 4"], pattern: "([0-9]+ ?)+"', "4:input.pattern", "nested quantifiers"),
    (r"(?P<c>\d+)'", r"(?P<c>(\d+)*)'", "7:thought.pattern", "nested quantifiers"),
    ("a | int + b | int == c | int", "a + b == c", "7:thought.legal", "'a' is a text here"),
    ("a | int + b | int == c | int", "c == 9", "7:thought.legal", "write c | int"),
    ("a | int + b | int == c | int", "a == c", "7:thought.legal", "false for every step that the prompts show"),
    ("a | int + b | int == c | int", "false", "7:thought.legal", "it is false for every step"),
    ('c | int"}', 'c | int", terminal: "true"}', "7:thought.terminal", "it is true for every step"),
    ("answer:", "evaluate: {by: vote}\nanswer:", "8:evaluate.by", "has no prompt 'prompts.vote'"),
]


@pytest.mark.parametrize(
    ("old", "new", "place", "message"), WARNED, ids=[f"{n[:20]}-{m[:20]}" for _, n, _, m in WARNED]
)
def test_a_probable_mistake_is_a_warning(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    """With file, line and key; the exit code stays 0, and solving such a task is not refused."""
    assert old in TASK
    path = tmp_path / "sums.yaml"
    said = validated(path, TASK.replace(old, new))
    assert [line for line in said.splitlines() if line.startswith(f"warning: {path}:{place}: ") and message in line], (
        said
    )
    assert isinstance(Task.load(path), YamlTask)


def test_one_example_is_enough_to_see_that_a_prompt_has_no_field(tmp_path: Path) -> None:
    """Then the fields of the template tell."""
    text = TASK.replace('["1 2", "3 4"]', '["1 2"]').replace("Now {{ input }}", "Now")
    assert "prompts.propose: the prompt has no field of the input" in validated(tmp_path / "sums.yaml", text)


REFUSED = [
    (
        "answer:",
        "evaluate: {by: valeu}\nanswer:",
        "8:evaluate.by",
        "no evaluator is called 'valeu'. Did you mean 'value'?",
    ),
    (
        "a | int + b | int == c | int",
        "a + 1 == c",
        "7:thought.legal",
        "fails on every step that the prompts show: TypeError",
    ),
    ("a | int + b | int == c | int", "text.no.more", "7:thought.legal", "an undefined value is used"),
    ("a | int + b | int == c | int", "{{ a == c }}", "7:thought.legal", "an expression has no {{ }} around it"),
    ("a | int + b | int == c | int", "a == d", "7:thought.legal", "unknown variable 'd'"),
    (
        'prompts: {propose: "Add, as',
        'evaluate: {labels: {yes: 1.0, no: 0.0}}\nprompts: {propose: "Add, as',
        "6:evaluate.labels.yes",
        "yes and no are true and false in YAML: write 'yes'",
    ),
    ('value: "V {{ state }}"', "value: {{ state }}", "6:prompts.value", "put the template in quotes"),
    ('["1 2", "3 4"]', "[12]", "4:input.examples.0", "12 is a number in YAML: write '12'"),
    ("depth: 1", "depth: 010", "5:depth", "should be a valid integer (got '010')"),
    ("depth: 1", "depth: 1:30", "5:depth", "should be a valid integer (got '1:30')"),
    ("answer:", "evaluate: {labels: {a: 010, b: -1:30.5}}\nanswer:", "8:evaluate.labels.a", "(got '010')"),
    ("answer:", "evaluate: {labels: {a: 010, b: -1:30.5}}\nanswer:", "8:evaluate.labels.b", "(got '-1:30.5')"),
    ('["1 2", "3 4"]', "[no]", "4:input.examples.0", "yes and no are true and false in YAML: write 'no'"),
    ('["1 2", "3 4"]', "[2024-01-01]", "4:input.examples.0", "a date in YAML: write '2024-01-01'"),
    (
        "answer:",
        "evaluate: {labels: {1: 1.0, 2: 0.0}}\nanswer:",
        "8:evaluate.labels.1",
        "1 is a number in YAML: write '1'",
    ),
    (
        "answer:",
        "evaluate: {labels: {on: 1.0, off: 0.0}}\nanswer:",
        "8:evaluate.labels.on",
        "on is a truth value in YAML",
    ),
]


@pytest.mark.parametrize(("old", "new", "place", "message"), REFUSED, ids=[fault[1][:30] for fault in REFUSED])
def test_a_certain_mistake_is_a_problem(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    """With file, line and the key as it stands in the file; exit code 2."""
    assert old in TASK
    path = tmp_path / "sums.yaml"
    said = validated(path, TASK.replace(old, new), 2)
    assert any(line.startswith(f"{path}:{place}: ") and message in line for line in said.splitlines()), said


@pytest.mark.parametrize(
    "line", ["  value: {{ state }} is good", "  value: {% if state %}x{% endif %}", "  stop: [{{ x }} y]"]
)
def test_a_template_without_quotes_that_is_no_yaml_has_the_hint_too(tmp_path: Path, line: str) -> None:
    """Where YAML itself stumbles, the message says what to do."""
    path = tmp_path / "open.yaml"
    path.write_text(f"name: x\nprompts:\n{line}\n")
    assert f"{path}:3: not valid YAML: " in (said := call("tasks", "validate", str(path)).stderr)
    assert "put the template in quotes" in said


def test_the_first_row_is_shown_as_it_is_read(tmp_path: Path) -> None:
    """Its input in the task's form, its gold answer, and how many rows there are."""
    (tmp_path / "rows.csv").write_text("q,a\n1 2,3\n3 4,7\n")
    text = TASK + "data: {file: rows.csv, input: '{{ q }}', gold: '= {{ a }}'}\n"
    path = tmp_path / "sums.yaml"
    path.write_text(text)
    out = call("tasks", "validate", str(path)).stdout
    assert "data: 2 rows; the first is '1 2'" in out
    assert "its gold answer: '= 3'" in out
    path.write_text(text.replace(", gold: '= {{ a }}'", ""))
    assert "its gold answer: none" in call("tasks", "validate", str(path)).stdout


def test_an_expression_that_fails_on_a_step_is_told_as_the_files_fault() -> None:
    """Not illegal in silence: unparsed, with the key and what is wrong; a step it holds for is kept."""
    task = YamlTask(TASK.replace("a | int + b | int == c | int", "{'1': '2'}[a] == b"), Path("own.yaml"))
    root = task.root("1 2")
    kept, lost = task.read_thoughts("propose", "1 + 2 = 3\n2 + 2 = 4", "1 2", root, [])
    assert kept.fault is None
    assert (lost.fault, kept.reason) == ("unparsed", None)
    assert lost.reason is not None
    assert lost.reason.startswith("own.yaml:7:thought.legal: an undefined value is used")


@pytest.mark.parametrize(
    ("source", "nested"),
    [
        (r"(\w+\s?)+\.", True),
        ("(a+)+", True),
        ("((a*))*b", True),
        ("(?:.*,)*", True),
        ("(x+x+)+y", True),
        ("(?:a|b+)+", True),
        (r"(?:\d+,?)+", True),
        (r"(?:\s*\w+\s*)*", True),
        (r"(?: \d+)*", False),
        ("(?:[a-z]+,)*", False),
        (r"(?:\w+\s)+", False),
        ("(?: +[a-z]+)*", False),
        ('(?:"[^"]*")*', False),
        ("(a+){3}", False),
        (r"(?:\w{3})+", False),
        (r"\d+(?:\.\d+)?", False),
    ],
)
def test_nested_quantifiers_are_told_from_separated_ones(source: str, nested: bool) -> None:
    """A repetition whose rounds have a border is none."""
    assert Pattern(source).nested_quantifiers is nested
