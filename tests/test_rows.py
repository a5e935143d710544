"""A row's other fields reach prompts, steps, checkers, grading and groups; the gold answer reaches none of them."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from treeagent import Agent, Checker, ConfigError, InputError, Task, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.cli import app
from treeagent.runtime.journal import read
from treeagent.taskfile import dataset

TASK = """
name: rows
description: Choose.
metadata: {version: 1}
input:
  description: a question
  normalise: "{{ input.split() | sort | join(' ') }}"
  examples: ["b a"]
  rows: [{options: [x, y]}]
depth: 1
answer: {grade: choice}
prompts:
  io: "{{ input }} of {{ row.options | join('/') }}:"
data:
  file: rows.jsonl
  input: "{{ q }}"
  gold: "{{ secret }}"
  fields: [options]
  group: "{{ kind }}"
"""
ROWS: list[dict[str, Any]] = [
    {"q": "d c", "options": ["one", "two"], "secret": "B", "kind": "short"},
    {"q": "f e", "options": ["three", "four"], "secret": "A", "kind": "long"},
    {"q": "h g", "options": ["five", "six"], "secret": None, "kind": None},
]


def write(folder: Path, text: str = TASK, rows: list[dict[str, Any]] = ROWS) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "rows.yaml"
    path.write_text(text)
    return path


def messages(folder: Path, old: str, new: str) -> str:
    assert old in TASK
    with pytest.raises(ConfigError) as caught:
        Task.load(write(folder, TASK.replace(old, new)))
    return str(caught.value)


def test_a_row_reaches_prompts_grading_and_groups(tmp_path: Path) -> None:
    """Each row with its own options; a row without a gold answer is ungraded, and one without a group has none."""
    data = dataset.load(Task.load(write(tmp_path)))
    task = Task.load(tmp_path / "rows.yaml")
    prompts = []
    for row in data.rows:
        bound = task.for_row(row.input, row.fields)
        prompts.append(bound.prompt("io", row.input, bound.root(row.input), []))
    assert prompts == ["c d of one/two:", "e f of three/four:", "g h of five/six:"]
    assert [row.group for row in data.rows] == ["short", "long", None]
    assert [data.gold.grade(row, "two") for row in data.rows] == [True, False, None]
    assert data.ungraded == 1
    assert task.prompt("io", "a b", task.root("a b"), []) == "a b of x/y:"


def test_an_input_without_its_row_is_refused_in_one_line(tmp_path: Path) -> None:
    """An example brings its own row, others get it with --row; a row is in the journal, and resume has it again."""
    path, backend = write(tmp_path), ScriptedBackend(lambda request: "(B)" if "one/two" in request.prompt else "?")
    agent = Agent(path, "io", backend=backend)
    with pytest.raises(InputError, match=r"without: options\. Give them \(--row NAME=VALUE\)"):
        agent.run("d c")
    journal = tmp_path / "run.jsonl"
    assert agent.solve("d c", row={"options": ["one", "two"]}, journal=journal).answer == "(B)"
    assert read(journal)[0].data["row"] == {"options": ["one", "two"]}
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:1]))
    again, text = Agent.from_journal(journal, backend=backend)
    assert again.run(text, journal=journal, resume=True).input == "c d"
    words = ["solve", "--task", str(path), "--search", "io", "--backend", "scripted", "--input", "d c"]
    words += ["--model", str(tmp_path / "rules.yaml"), "--quiet"]
    (tmp_path / "rules.yaml").write_text('- {match: "one/two", text: "two"}\n')
    shown = CliRunner().invoke(app, [*words, "--row", 'options=["one", "two"]'])
    assert "Answer: two" in shown.output, shown.output
    assert CliRunner().invoke(app, words).exit_code == 2


FAULTS = [
    ("fields: [options]", "fields: [options, secret]", "rows.yaml:18:data.fields.1: data.gold reads 'secret'"),
    ("row.options |", "row.optoins |", "prompts.io: unknown field 'optoins' of the row. Did you mean 'options'?"),
    ("{{ input }} of", "{{ row.secret }} of", "prompts.io: row.secret is named as gold"),
    ("{{ input }} of", "{{ gold }} of", "prompts.io: unknown variable 'gold'"),
    ("  rows: [{options: [x, y]}]\n", "", "rows.yaml:5:input: the key 'rows' is missing"),
    ("[{options: [x, y]}]", "[{}]", "the field 'options' is missing"),
    ("[{options: [x, y]}]", "[]", "0 row(s) for 1 example(s)"),
    (
        "grade: choice",
        "grade: choise",
        "rows.yaml:11:answer.grade: there is no such kind of answer. Did you mean 'choice'",
    ),
    ("grade: choice", "grade: {by: number, ordered: true}", "ordered is a key of the kind 'list'"),
    ("grade: choice", "grade: {by: number, tolerence: 1}", "unknown key. Did you mean 'tolerance'"),
    ("grade: choice", "grade: {by: number, tolerance: -1}", "greater than or equal to 0"),
    ("grade: choice", "grade: {by: list, separator: '('}", "not a regular expression"),
    ("grade: choice", "grade: {by: number, filters: [{strip: [unit]}]}", "Did you mean 'units'"),
    ("grade: choice", "grade: {by: number, filters: [{frist: a}]}", "unknown key. Did you mean 'first'"),
    ("grade: choice", "grade: {by: number, filters: [{}]}", "exactly one of the keys first, last, strip"),
    ("grade: choice", "grade: 'answer == golds'", "unknown variable 'golds'. Did you mean 'gold'"),
    ("grade: choice", "grade: 'answer =='", "not a valid expression"),
    ("grade: choice", "grade: 'answer == row.secret'", "row.secret is named as gold"),
    ("grade: choice", "grade: choice, gradee: 1", "unknown key. Did you mean 'grade'"),
    ("depth: 1", "depth: 1\nvariables: {row: 1}", "variables.row: the name is taken"),
    ("depth: 1", "depth: 1\nchecker: gsm8k", "the checker 'gsm8k' grades answers itself"),
    ("fields: [options]", "fields: [options, options]", "the field 'options' is named twice"),
    ("fields: [options]", "fields: [options]\n  shots: {count: 9}", "2 different rows with an answer; 9 examples"),
    ("fields: [options]", "fields: [options]\n  shots: {count: 0}", "greater than or equal to 1"),
    ("fields: [options]", "fields: [options]\n  shots: {count: 1, file: no.csv}", "cannot read the data file"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS, ids=[new[:40] for _, new, _ in FAULTS])
def test_a_fault_names_file_line_key_and_the_nearest_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Nothing that is misspelt or secret is taken in silence."""
    assert message in messages(tmp_path, old, new)


def test_a_field_that_rows_lack_is_a_fault_of_the_data(tmp_path: Path) -> None:
    """At its row, or at the key where no row has it."""
    task = Task.load(write(tmp_path, rows=[*ROWS, {"q": "i j", "secret": "A", "kind": "x"}]))
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl:4:data\.fields: the field 'options' of data\.fields is missing"
    ):
        dataset.load(task)


def test_an_expression_grades_with_the_row(tmp_path: Path) -> None:
    """Over answer, gold, row and the variables, in the sandbox; one that fails names its key."""
    text = TASK.replace("grade: choice", "grade: \"row.options['AB'.index(gold)] == answer | lower\"")
    task = Task.load(write(tmp_path, text))
    data = dataset.load(task)
    assert [data.gold.grade(row, "TWO") for row in data.rows] == [True, False, None]
    failing = Task.load(write(tmp_path, TASK.replace("grade: choice", 'grade: "answer | int / 0 == 1"')))
    with pytest.raises(ConfigError, match=r"rows\.yaml:11:answer\.grade: ZeroDivisionError"):
        failing.grade("1", "1")


class Options(Checker):
    """Reads the row."""

    def legal(self, parent: str, text: str, state: str) -> bool:
        return text in self.row["options"]

    def is_promising(self, input: str, steps: Any, state: str) -> bool | None:
        return self.row["options"][0] in steps

    def grade(self, answer: str, gold: str) -> bool:
        return str(self.row["options"]["AB".index(gold)]) == answer


def test_a_checker_sees_what_templates_see(tmp_path: Path) -> None:
    """Legality, promise and grading of one row; another row's task is not touched by it."""
    text = TASK.replace("answer: {grade: choice}\n", "checker: test_rows:Options\n")
    task = YamlTask(text, write(tmp_path, text), allow_code=True)
    first, second, _ = dataset.load(task).rows
    one, other = task.for_row(first.input, first.fields), task.for_row(second.input, second.fields)
    for bound, legal in ((one, "two"), (other, "four")):
        steps = bound.read_thoughts("sample", legal, "c d", bound.root("c d"), [])
        assert [step.fault for step in steps] == [None]
    assert one.read_thoughts("sample", "four", "c d", one.root("c d"), [])[0].fault == "illegal"
    assert one.is_promising("c d", ["one"], "") is True
    assert other.is_promising("e f", ["one"], "") is False
    assert one.grade("two", "B")
    assert not other.grade("two", "B")


# Few-shot examples

SHOTS = TASK.replace("  fields: [options]", "  fields: [options]\n  shots: {count: 2, seed: 3}").replace(
    'io: "', 'io: "{% for shot in shots %}{{ shot.input }}={{ shot.answer }}({{ shot.row.options[0] }});{% endfor %}'
)
MANY = [{"q": f"{n} q", "options": [f"o{n}", "p"], "secret": "AB"[n % 2], "kind": "k"} for n in range(12)]


def shots(task: Task, row: dataset.DataRow) -> list[str]:
    bound = task.for_row(row.input, row.fields)
    return bound.prompt("io", row.input, bound.root(row.input), []).split(";")[:-1]


def test_few_shot_examples_never_include_the_row_itself(tmp_path: Path) -> None:
    """Two for each row, the same but where one is its own; also if it is written with other blanks or another order."""
    task = Task.load(write(tmp_path, SHOTS, MANY))
    rows = dataset.load(task).rows
    usual = max((tuple(shots(task, row)) for row in rows), key=[tuple(shots(task, row)) for row in rows].count)
    assert len(usual) == 2
    replaced = 0
    for row in rows:
        shown = shots(task, row)
        assert len(shown) == 2
        assert not [text for text in shown if text.startswith(f"{row.input}=")]
        replaced += tuple(shown) != usual
    assert replaced == 2
    again = Task.load(tmp_path / "rows.yaml")
    assert [shots(again, row) for row in rows] == [shots(task, row) for row in rows]
    other = Task.load(write(tmp_path, SHOTS.replace("seed: 3", "seed: 4"), MANY))
    assert [shots(other, row) for row in rows] != [shots(task, row) for row in rows]


def test_a_search_cannot_reach_the_gold_answer_of_its_row(tmp_path: Path) -> None:
    """Nothing that the task of a search refers to holds it: neither the row, nor the pool of few-shot examples."""
    rows = [{**row, "secret": f"secret-{number}"} for number, row in enumerate(MANY)]
    text = SHOTS.replace("grade: choice", "grade: exact")
    task = Task.load(write(tmp_path, text, rows))
    assert [text for text in texts_within(task) if text.startswith("secret-")]  # the walk would see them
    for row in dataset.load(task).rows:
        bound = task.for_row(row.input, row.fields)
        assert f"secret-{row.number}" not in texts_within(bound)
        assert "gold" not in " ".join(dir(bound)).lower()


def texts_within(root: object) -> set[str]:
    """Every text that can be reached from an object, classes and modules aside."""
    seen: set[int] = set()
    texts: set[str] = set()
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type(gc) | type) or callable(thing):
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            texts.add(thing)
        todo += gc.get_referents(thing)
    return texts
