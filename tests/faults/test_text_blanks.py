"""Inputs, steps and answers keep their blanks; what a task does not want, the task says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_text_gate import FREE, Same, call

from treeagent import Agent, InputError, Task, YamlTask
from treeagent.backends.scripted import ScriptedBackend


def test_code_keeps_its_indentation() -> None:
    """Field case 4: the input's blanks and the steps' reach prompt, state and answer."""
    yaml = FREE.replace("depth: 2", 'depth: 2\nsampling: {sample: {n: 1, stop: ["\\n"]}}').replace(
        '  propose: "P {{ state }}\\n"\n', ""
    )
    head = "def f(x):\n    '''Two  spaces.'''"
    backend = ScriptedBackend(["    if x:", "        return 1  "])
    result = Agent(YamlTask(yaml), "greedy", backend=backend, evaluator=Same()).solve(f"\n{head}\r\n")
    assert backend.requests[0].prompt == f"Problem: {head}\n"
    assert backend.requests[1].prompt == f"Problem: {head}\n    if x:\n"
    assert result.path == ("    if x:", "        return 1  ")
    assert result.answer == "    if x:\n        return 1  "
    assert result.tree[2].state == f"{head}\n    if x:\n        return 1  "


def test_the_printed_path_keeps_its_indentation(tmp_path: Path) -> None:
    """What a person reads is the code as well."""
    words = ("--task", str(tmp_path / "free.yaml"), "--search", "io", "--input", "go")
    printed = call(*words, rules=r'[{match: ".", text: "    if x:\n        return 1"}]', at=tmp_path).stdout
    assert "1.     if x:\n             return 1" in printed


@pytest.mark.parametrize(
    ("separator", "completion", "steps"),
    [
        ("\n", " a\r\n\r\n  b \rc\n", [" a", "  b ", "c"]),
        ("\n\n", "a\r\n b\r\n\r\nc\n\nd", ["a\r\n b", "c", "d"]),
        ("###", "\n a\nb \n###\r\n\r\n### c", [" a\nb ", " c"]),
        ("\n", "x\u2028y\x0cz", ["x\u2028y\x0cz"]),
        ("\n", " \n\t\n", []),
    ],
)
def test_lists_are_split_at_every_kind_of_line_break(separator: str, completion: str, steps: list[str]) -> None:
    """A separator with a line break stands for all three; pieces lose their outer line breaks only."""
    task = YamlTask(FREE + f"thought: {{separator: {json.dumps(separator)}}}\n")
    root = task.root("hello")
    assert [step.text for step in task.read_thoughts("propose", completion, "hello", root, [])] == steps
    assert [step.text for step in task.read_thoughts("sample", completion, "hello", root, [])] == steps[:1]


@pytest.mark.parametrize(
    ("pattern", "piece", "text", "fault"),
    [
        (r"\d+", "  12 ", "12", None),
        (r"\s*(?P<text>\d+)\s*", "  12 ", "12", None),
        (r"(?P<text> *\d+) *", "  12 ", "  12", None),
        (r".*\d+.*", "  12 ", "  12 ", None),
        (r"\d+", " x ", " x ", "unparsed"),
    ],
)
def test_a_pattern_says_which_blanks_belong_to_a_step(pattern: str, piece: str, text: str, fault: str | None) -> None:
    """A piece that matches without its blanks is the step without them; a group ``text`` is the step."""
    task = YamlTask(FREE + f"thought: {{pattern: '{pattern}'}}\n")
    (step,) = task.read_thoughts("propose", piece, "hello", task.root("hello"), [])
    assert (step.text, step.fault) == (text, fault)


@pytest.mark.parametrize(
    ("more", "given", "read"),
    [
        ("", "  a  b\t\n", "  a  b\t"),
        ("", "\r\n\na\r\n  b\n", "a\r\n  b"),
        ("", "\ufeffa", "a"),
        ("", "a\u2028b", "a\u2028b"),
        ("normalise: \"{{ input.split() | join(' ') }}\", ", "\xa0 a \xa0\tb ", "a b"),
        ("pattern: '[ab]( [ab])*', ", " a \xa0 b ", "a b"),
        ("pattern: '[ab ]+', ", " a  b ", " a  b "),
    ],
)
def test_inputs_keep_their_blanks_unless_the_task_says_otherwise(more: str, given: str, read: str) -> None:
    """Outer line breaks and a byte order mark go; the rest is for ``normalise`` and ``pattern``."""
    examples = 'examples: ["a"]' if more else 'examples: ["hello"]'
    task = YamlTask(FREE.replace('examples: ["hello"]', more + examples))
    result = Agent(task, "io", backend=ScriptedBackend(lambda _: "x")).solve(given)
    assert result.input == read
    assert task.read_input(read) == read


@pytest.mark.parametrize("given", ["", " ", "\n\r\n", "\t \n", "\ufeff", "\xa0"])
def test_a_blank_input_is_none(given: str) -> None:
    """It is refused as before."""
    with pytest.raises(InputError, match="empty"):
        Agent(YamlTask(FREE), "io", backend=ScriptedBackend(lambda _: "x")).solve(given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("game24", "4  9\t10 13 "),
        ("game24", "\n 4\xa09 10 13\r\n"),
        ("blocksworld", " a is  on the table.\tb is on the table. The hand is empty.  Goal:  a is on\xa0b. "),
        ("blocksworld", "a is on the table\r\nb is on the table\r\nThe hand is empty\r\nGoal: a is on b"),
        ("prontoqa", "Every gorp is a  tandle. Pia is a gorp.\xa0True or  false: Pia is a tandle."),
        ("creative_writing", " One is here.  Two is here.\nThree is here. Four is here. "),
        ("crosswords", " a |  b | c | d | e | f | g | h | i |\tj k  l "),
        ("gsm8k", " How  many\nare 2 and 2?\xa0"),
    ],
)
def test_shipped_tasks_take_blanks_as_they_did(name: str, given: str) -> None:
    """Runs of blanks, tabs, non-breaking blanks and line breaks around an input make no other input of it."""
    task = Task.load(name)
    read = task.read_input(given)
    assert "  " not in read
    assert "\xa0" not in read
    assert read == read.strip()
    assert task.read_input(read) == read


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("game24", "4 + 9 = 13 (left: 10 13 13)"),
        ("blocksworld", "unstack c from a"),
        ("prontoqa", "Every gorp is a tandle. Pia is a tandle."),
        ("crosswords", "h1. ACHES"),
        ("gsm8k", "How many tulips are there? 4 * 6 = 24"),
        ("creative_writing", "1. A plan"),
    ],
)
def test_shipped_tasks_read_steps_as_they_did(name: str, step: str) -> None:
    """Blanks around a step are not the step's."""
    task = Task.load(name)
    input = task.read_input(task.examples[0])
    root = task.root(input)
    role = "propose" if task.has("propose") else "sample"
    (plain,) = task.read_thoughts(role, step, input, root, [])
    assert (plain.text, plain.fault) == (step, None)
    for around in (f"  {step} ", f"\t{step}\r\n", f"\n \n {step}\n\n"):
        assert task.read_thoughts(role, around, input, root, []) == [plain]


def test_votes_count_answers_that_differ_in_outer_blanks_as_one() -> None:
    """Without ``answer.same`` too."""
    backend = ScriptedBackend([" 4", "5", "4\n", "5", "4 "])
    task = YamlTask(FREE.replace('  io: "{{ input }}"', '  cot: "{{ input }}"'))
    assert Agent(task, "cot-sc", backend=backend, options={"k": 5}).solve("2 + 2").answer.strip() == "4"
