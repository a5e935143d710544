"""Rows of data files: what is absent is absent, and what is faulty is said once at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from row_tasks import ROWS, evaluate, problems, rows, task
from typer.testing import CliRunner

from treeagent import ConfigError, Task
from treeagent.cli import app
from treeagent.taskfile.dataset import load

# Gold answers and questions that are not there


def test_a_null_or_empty_gold_answer_is_none(tmp_path: Path) -> None:
    """Field case 1: two of two are right, and two rows are said to have no gold answer."""
    data = load(task(tmp_path, ROWS))
    assert [data.gold.grade(row, "4") for row in data.rows] == [True, None, None, True]
    assert data.ungraded == 2
    done = evaluate(tmp_path)
    assert done.exit_code == 0
    assert "accuracy 100.0%" in done.stdout
    assert "2 of 2" in done.stdout
    assert "2 of 4 rows have no gold answer" in done.stdout
    report = json.loads(evaluate(tmp_path, "--json").stdout)
    assert (report["accuracy"]["part"], report["accuracy"]["whole"], report["rows_without_gold"]) == (2, 2, 2)


def test_a_row_without_gold_and_without_an_answer_is_not_wrong(tmp_path: Path) -> None:
    """Nothing is known of it; one with a gold answer and no answer is wrong."""
    task(tmp_path, ROWS)
    (tmp_path / "four.yaml").write_text('[{match: ".", text: " "}]')
    how = ["--search", "io", "--backend", "scripted", "--model", str(tmp_path / "four.yaml"), "--quiet", "--json"]
    report = json.loads(CliRunner().invoke(app, ["eval", "--task", str(tmp_path / "qa.yaml"), *how]).stdout)
    assert (report["accuracy"]["part"], report["accuracy"]["whole"], report["unanswered"]) == (0, 2, 4)


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ('{"question": "q", "answer": null}', "{{ answer }}"),
        ('{"question": "q", "answer": NaN}', "{{ answer }}"),
        ('{"question": "q", "answer": -Infinity}', "{{ answer }}"),
        ('{"question": "q", "answer": "  "}', "{{ answer }}"),
        ('{"question": "q", "answer": null}', "{{ answer.split('####')[-1] }}"),
        ('{"question": "q", "answer": null}', "{{ answer | upper }}"),
        ('{"question": "q", "answer": [null]}', "{{ answer | join }}"),
        ('{"question": "q", "answer": {"value": null}}', "{{ answer.value }}"),
        ('{"question": "q", "answer": null}', "{{ row.answer ~ '!' }}"),
        ('{"question": "q"}', "{{ row.answer | default('') }}"),
        ('{"question": "q"}', "{{ row.get('answer') }}"),
        ('{"question": "q", "answer": null}', "{{ answer or none }}"),
    ],
)
def test_every_use_of_a_null_gold_answer_is_no_gold_answer(row: str, gold: str, tmp_path: Path) -> None:
    """Filters, methods and nested values too; NaN stands for null in tables."""
    data = load(task(tmp_path, row, "{{ question }}", gold))
    assert (data.ungraded, data.gold.grade(data.rows[0], "None")) == (1, None)


@pytest.mark.parametrize(
    "input", ["{{ question }}", "Q: {{ question }}", "{{ question | upper }}", "{{ row.question }}"]
)
def test_a_null_question_is_a_faulty_row(input: str, tmp_path: Path) -> None:
    """It is not asked as None."""
    content = '{"question": "a", "answer": "1"}\n{"question": null, "answer": "2"}\n'
    assert problems(tmp_path, content, input) == ["qa.jsonl:2:data.input: the value of 'question' is null"]


@pytest.mark.parametrize(
    ("input", "result"),
    [
        ("{{ question }}{{ hint | default(' none') }}", "q none"),
        ("{{ question }}{{ hint or '' }}", "q"),
        ("{{ question }}{% if hint %} {{ hint }}{% endif %}", "q"),
        ("{{ question }}{% if hint is not none %} {{ hint }}{% endif %}", "q"),
        ("{{ question }}{% if hint is defined %} {{ hint }}{% endif %}", "q"),
        ("{{ question }}{% if hint != none %} {{ hint }}{% endif %}", "q"),
        ("{{ row | tojson }}", '{"answer": "1", "hint": null, "question": "q"}'),
    ],
)
def test_a_template_may_guard_a_null(input: str, result: str, tmp_path: Path) -> None:
    """By a default or a test; JSON has a null."""
    assert rows(load(task(tmp_path, '{"question": "q", "answer": "1", "hint": null}', input))) == [result]


def test_validate_shows_that_the_first_row_has_no_gold_answer(tmp_path: Path) -> None:
    """A null is no fault there either."""
    task(tmp_path, '{"question": "q", "answer": null}')
    done = CliRunner().invoke(app, ["tasks", "validate", str(tmp_path / "qa.yaml")])
    assert done.exit_code == 0, done.output
    assert "its gold answer: none" in done.stdout


# Names


@pytest.mark.parametrize(
    "input",
    [
        "{{ question }}{{ hint | default('') }}",
        "{{ question }}{% if hint is defined %} ({{ hint }}){% endif %}",
        "{{ question }}{{ row.hint | default('') }}",
        "{% if hint is not defined %}{{ question }}{% else %}{{ question }} {{ hint }}{% endif %}",
    ],
)
def test_a_name_that_the_template_guards_is_no_fault(input: str, tmp_path: Path) -> None:
    """Field case 18: sets with fields that only some rows have."""
    content = '{"question": "2+2?", "answer": "4", "hint": "add"}\n{"question": "3+1?", "answer": "4"}\n'
    inputs = rows(load(task(tmp_path, content, input)))
    assert "add" in inputs[0]
    assert inputs[1] == "3+1?"


def test_a_name_that_some_rows_lack_names_the_cure(tmp_path: Path) -> None:
    """At the first such row, with the number of the others."""
    content = '{"question": "a", "hint": "x"}\n' + '{"question": "b"}\n' * 300
    (said,) = problems(tmp_path, content, "{{ question }} {{ hint }}", None)
    assert said.startswith("qa.jsonl:2:data.input: unknown variable 'hint'; this row has: question. ")
    assert "{{ hint | default('') }}" in said
    assert "row.hint | default('')" in said
    assert said.endswith("(and in 299 further rows)")


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("key", ["input", "gold"])
def test_one_wrong_name_is_said_once_at_the_tasks_key(key: str, count: int, tmp_path: Path) -> None:
    """Not three hundred times at the data file."""
    content = '{"question": "a", "answer": "b"}\n' * count
    how = ("{{ qestion }}", None) if key == "input" else ("{{ question }}", "{{ anser }}")
    name, near = ("qestion", "question") if key == "input" else ("anser", "answer")
    (said,) = problems(tmp_path, content, *how)
    assert said.startswith(f"qa.yaml:7:data.{key}: unknown variable {name!r}. Did you mean {near!r}?")


@pytest.mark.parametrize("input", ["{{ question", "{{ question | wibble }}", "{% if %}"])
def test_a_template_that_is_none_is_said_once(input: str, tmp_path: Path) -> None:
    """At the task file's key too."""
    (said,) = problems(tmp_path, ROWS, input, None)
    assert said.startswith(
        "qa.yaml:7:data.input: TemplateSyntaxError" if "wib" not in input else "qa.yaml:7:data.input"
    )


def test_thousands_of_faulty_rows_are_not_thousands_of_lines(tmp_path: Path) -> None:
    """The first ones, and how many there are beyond."""
    content = "".join(f'{{"question": "{i}", "answer": 1}}\n' for i in range(300))
    made = task(tmp_path, content)
    text = (
        (tmp_path / "qa.yaml").read_text().replace('examples: ["2+2?"]', "pattern: '[a-z?+2]+', examples: [\"2+2?\"]")
    )
    (tmp_path / "qa.yaml").write_text(text)
    assert made.name == "qa"
    with pytest.raises(ConfigError) as caught:
        load(Task.load(tmp_path / "qa.yaml"))
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 51
    assert "qa.jsonl:1: '0' is not an input" in said[0]
    assert "further faults of rows are not listed" in said[-1]


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "pop", "row", "copy", "update"])
@pytest.mark.parametrize("way", ["{{ row.NAME }}", "{{ NAME }}", "{{ row['NAME'] }}"])
def test_columns_may_have_the_names_of_methods(name: str, way: str, tmp_path: Path) -> None:
    """Field case c: the column, not a method of the mapping; a column ``row`` takes the place of the whole row."""
    if name == "row" and way != "{{ NAME }}":
        way = "{{ row }}"
    content = f'{{"{name}": "sound", "answer": "1"}}'
    assert rows(load(task(tmp_path, content, way.replace("NAME", name)))) == ["sound"]


def test_a_changed_limit_is_told_in_one_short_line(tmp_path: Path) -> None:
    """Not a hundred and fifty row numbers."""
    task(tmp_path, "".join(f'{{"question": "{i}?", "answer": "4"}}\n' for i in range(150)))
    assert evaluate(tmp_path, "--out", str(tmp_path / "out")).exit_code == 0
    done = evaluate(tmp_path, "--limit", "3", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "its data.rows is 150 values from 0 to 149, this one's is [0, 1, 2]" in done.stderr
    assert len(done.stderr) < 500
