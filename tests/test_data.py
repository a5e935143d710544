"""Inputs from data files, and gold answers kept apart from them."""

from __future__ import annotations

import dataclasses

import pytest

from treeagent import ConfigError, Task
from treeagent.data import load

TASK = """
name: sums
description: Add.
metadata: {{version: 1}}
input: {{description: a sum, pattern: '\\d+ \\+ \\d+', examples: ["1 + 2"]}}
depth: 1
prompts: {{io: "{{{{ input }}}}"}}
data: {{file: {file}, input: "{input}", gold: {gold}}}
"""


def task(tmp_path, file: str, content: str, input: str, gold: str | None) -> Task:
    (tmp_path / file).write_text(content)
    path = tmp_path / "sums.yaml"
    path.write_text(TASK.format(file=file, input=input, gold="null" if gold is None else f'"{gold}"'))
    return Task.load(path)


@pytest.mark.parametrize(
    ("file", "content", "input", "gold"),
    [
        ("a.txt", "1 + 2\n\n3 + 4\n", "{{ line }}", None),
        ("a.jsonl", '{"q": "1 + 2", "a": 3}\n{"q": "3 + 4", "a": 7}\n', "{{ q }}", "{{ a }}"),
        ("a.json", '[{"q": "1 + 2", "a": 3}, {"q": "3 + 4", "a": 7}]', "{{ q }}", "{{ a }}"),
        ("a.csv", 'The sum,a\n1 + 2,3\n"3 + 4",7\n', "{{ row['The sum'] }}", "{{ a }}"),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, file, content, input, gold):
    """Templates over a row's fields make the input and the gold answer."""
    data = load(task(tmp_path, file, content, input, gold))
    assert [row.input for row in data.rows] == ["1 + 2", "3 + 4"]
    if gold is None:
        assert data.gold.grade(data.rows[0], "3") is None
    else:
        assert data.gold.grade(data.rows[0], "3") is True
        assert data.gold.grade(data.rows[1], "3") is False
        assert data.gold.grade(data.rows[1], None) is False


def test_a_row_holds_no_gold_answer(tmp_path):
    """What a search is handed cannot lead to the gold answer."""
    data = load(task(tmp_path, "a.jsonl", '{"q": "1 + 2", "a": 3}\n', "{{ q }}", "{{ a }}"))
    assert {field.name for field in dataclasses.fields(data.rows[0])} == {"number", "input"}


def test_a_slice_keeps_the_numbers_of_the_file(tmp_path):
    """Rows are known by their place in the file."""
    found = load(task(tmp_path, "a.txt", "".join(f"{i} + 1\n" for i in range(9)), "{{ line }}", None), 2, 5)
    assert [(row.number, row.input) for row in found.rows] == [(2, "2 + 1"), (3, "3 + 1"), (4, "4 + 1")]


@pytest.mark.parametrize(
    ("file", "content", "input", "said"),
    [
        ("a.txt", "1 + 2\nx\n", "{{ line }}", "a.txt:2: 'x' is not an input of sums"),
        ("a.jsonl", '{"q": "1 + 2"}\n{"q":\n', "{{ q }}", "a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", "{{ q }}", "a row must be a mapping"),
        ("a.jsonl", '{"q": "1 + 2"}\n', "{{ qq }}", "a.jsonl:1:data.input: unknown variable 'qq'. Did you mean 'q'?"),
        ("a.json", '{"q": "1 + 2"}', "{{ q }}", "expected a list of rows"),
        ("a.csv", "q,a\n1 + 2\n", "{{ q }}", "a.csv:2: the row does not have the 2 fields"),
        ("a.csv", "q,a\n1 + 2,3,4\n", "{{ q }}", "a.csv:2: the row does not have the 2 fields"),
        ("a.tsv", "1 + 2\n", "{{ line }}", "unknown kind '.tsv'"),
        ("a.txt", "", "{{ line }}", "no rows"),
    ],
)
def test_a_faulty_file_is_told_with_its_line(tmp_path, file, content, input, said):
    """Nothing is skipped in silence."""
    with pytest.raises(ConfigError) as caught:
        load(task(tmp_path, file, content, input, None))
    assert said in str(caught.value)


def test_all_faulty_rows_are_listed(tmp_path):
    """Not only the first."""
    with pytest.raises(ConfigError) as caught:
        load(task(tmp_path, "a.txt", "x\n1 + 2\ny\n", "{{ line }}", None))
    assert [problem.line for problem in caught.value.problems] == [1, 3]


def test_a_task_without_data_says_so(tmp_path):
    """The message tells what to add."""
    path = tmp_path / "sums.yaml"
    path.write_text(TASK.format(file="a", input="b", gold="null").split("\ndata:")[0])
    with pytest.raises(ConfigError, match="names no data"):
        load(Task.load(path))


def test_the_bundled_data_is_readable():
    """All 100 test puzzles of game24 are inputs of the task."""
    assert len(load(Task.load("game24")).rows) == 100
