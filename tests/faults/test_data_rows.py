"""Rows of data files: what is absent is absent, what is faulty is said once at its place, and lines are lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import ConfigError, Task
from treeagent.cli import app
from treeagent.taskfile import readers
from treeagent.taskfile.dataset import Data, load

QA = """name: qa
description: Questions with a short answer.
metadata: {version: 1}
input: {description: a question, examples: ["2+2?"]}
depth: 1
prompts: {io: "{{ input }}"}
data: {file: FILE, input: INPUT, gold: GOLD}
"""
ROWS = """{"question": "2+2?", "answer": "4"}
{"question": "3+1?", "answer": null}
{"question": "5-1?", "answer": ""}
{"question": "8/2?", "answer": "4"}
"""


def task(
    folder: Path, content: str | bytes, input: str = "{{ question }}", gold: str | None = "{{ answer }}",
    file: str = "qa.jsonl",
) -> Task:  # fmt: skip
    """The task, with its data beside it."""
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    text = QA.replace("FILE", file).replace("INPUT", json.dumps(input)).replace("GOLD", json.dumps(gold))
    (folder / "qa.yaml").write_text(text)
    return Task.load(folder / "qa.yaml")


def rows(data: Data) -> list[str]:
    """The inputs."""
    return [row.input for row in data.rows]


def problems(folder: Path, content: str | bytes, *how: str | None, file: str = "qa.jsonl") -> list[str]:
    """What is said of a faulty file, without the folder."""
    made = task(folder, content, *how, file=file)
    with pytest.raises(ConfigError) as caught:
        load(made)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def evaluate(folder: Path, *words: str):
    """The command ``eval`` with a model that always says 4."""
    (folder / "four.yaml").write_text('[{match: ".", text: "4"}]')
    how = ["--search", "io", "--backend", "scripted", "--model", str(folder / "four.yaml"), "--quiet"]
    return CliRunner().invoke(app, ["eval", "--task", str(folder / "qa.yaml"), *how, *words])


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


# Line ends, headers, blanks


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_records_end_at_line_breaks_only(odd: str, end: str, mark: bytes, tmp_path: Path) -> None:
    """Field case 16, in every format with lines."""
    first, second = f"What{odd}is 3+1?", "  two  "
    csv = f'question,answer{end}{first},4{end}"{second}",4{end}'
    assert rows(load(task(tmp_path, mark + csv.encode(), file="qa.csv"))) == [first, second]
    text = f"{first}{end}{end}{second}{end}"
    assert rows(load(task(tmp_path, mark + text.encode(), "{{ line }}", None, file="qa.txt"))) == [first, second]
    values = [json.dumps({"question": text, "answer": 4}, ensure_ascii=False) for text in (first, second)]
    jsonl = end.join(values) + end
    assert rows(load(task(tmp_path, mark + jsonl.encode(), file="qa.jsonl"))) == [first, second]


def test_a_field_of_csv_may_be_long(tmp_path: Path) -> None:
    """As long as the file may be; the limit of the module csv, which other code may rely on, is as before."""
    limit = csv.field_size_limit()
    text = "x" * (limit + 1)
    assert rows(load(task(tmp_path, f"question,answer\n{text},1\n", file="qa.csv"))) == [text]
    assert csv.field_size_limit() == limit


def test_a_field_of_csv_may_have_lines(tmp_path: Path) -> None:
    """In quotation marks, and its line breaks stay what they are."""
    content = 'question,answer\r\n"a\r\n  b\rc\nd",4\r\n'
    assert rows(load(task(tmp_path, content, file="qa.csv"))) == ["a\r\n  b\rc\nd"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("qa.csv", "question,answer,answer\n1,2,3\n", "qa.csv:1: not CSV: the column 'answer' is given twice"),
        ("qa.jsonl", '{"question": "a"}\n{"question": 1, "question": 2}\n', "qa.jsonl:2: not JSON: the key 'question'"),
        ("qa.json", '[{"question": 1, "question": 2}]', "qa.json: not JSON: the key 'question' is given twice"),
        ("qa.json", "[" * 100_000, "qa.json: not JSON that can be read: it is nested too deeply"),
        ("qa.jsonl", "[" * 100_000, "qa.jsonl:1: not JSON that can be read: it is nested too deeply"),
        ("qa.jsonl", "[" * 500 + "]" * 500, "qa.jsonl:1: it is nested deeper than 100 levels"),
        ("qa.json", '[{"question": ' + "7" * 5000 + "}]", "qa.json: not JSON: "),
        ("qa.jsonl", '{"question": ' + "7" * 5000 + "}", "qa.jsonl:1: not JSON: "),
        ("qa.json", '{"a"', "qa.json:1: not JSON: "),
        ("qa.csv", 'question,answer\n"a,b\n', "qa.csv:2: not CSV: "),
        ("qa.jsonl", '{"question": 1}\n{"question": 1e400}\n', "qa.jsonl:2: the number 1e400 is beyond the largest"),
        ("qa.json", '[{"question": -1.5E+999}]', "qa.json: the number -1.5E+999 is beyond the largest"),
        ("qa.txt", b"\xff\xfeq\x00", "the data file qa.txt is not UTF-8 text"),
        ("qa.jsonl", "", "qa.jsonl: no rows"),
        ("qa.csv", "", "qa.csv: no rows"),
        ("qa.json", "7", "qa.json:1: expected a list of rows"),
        ("qa.jsonl", "null", "qa.jsonl:1: a row must be a mapping of fields or a list, not None"),
    ],
)
def test_an_absurd_file_is_one_line(file: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    """No traceback, and the place where there is one."""
    (message,) = problems(tmp_path, content, "{{ row }}", None, file=file)
    assert message.startswith(said)


def test_surrogates_of_rows_are_replaced(tmp_path: Path) -> None:
    """JSON can write one as an escape, in keys as well; a whole pair is its character."""
    content = '{"question": "a\\ud83d \\ud83d\\ude00", "answer": {"\\ude00": "\\ud83d"}}'
    data = load(task(tmp_path, content, "{{ question }} {{ answer }}", "{{ answer.values() | join }}"))
    assert rows(data) == ["a\ufffd \U0001f600 {'\ufffd': '\ufffd'}"]
    assert data.gold.grade(data.rows[0], "\ufffd")


def test_a_data_file_has_a_largest_size(tmp_path: Path, monkeypatch) -> None:
    """A message instead of all the memory."""
    monkeypatch.setattr(readers, "DATA_BYTES", 64)
    (said,) = problems(tmp_path, ROWS)
    assert "has more than" in said


def test_a_changed_limit_is_told_in_one_short_line(tmp_path: Path) -> None:
    """Not a hundred and fifty row numbers."""
    task(tmp_path, "".join(f'{{"question": "{i}?", "answer": "4"}}\n' for i in range(150)))
    assert evaluate(tmp_path, "--out", str(tmp_path / "out")).exit_code == 0
    done = evaluate(tmp_path, "--limit", "3", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "its data.rows is 150 values from 0 to 149, this one's is [0, 1, 2]" in done.stderr
    assert len(done.stderr) < 500
