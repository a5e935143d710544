"""Formats of data files: lines, fields, sizes and absurd content."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from row_tasks import ROWS, problems, rows, task

from treeagent.taskfile import readers
from treeagent.taskfile.dataset import load


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
        ("qa.jsonl", "", "qa.jsonl: there are no rows in it"),
        ("qa.csv", "", "qa.csv: there are no rows in it"),
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
