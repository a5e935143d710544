"""Inputs from data files, and gold answers kept apart from them."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import types

import pytest

from treeagent import ConfigError, Task
from treeagent.taskfile.dataset import load

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
        ("a.json", '[["1 + 2", [3]], ["3 + 4", [7]]]', "{{ row[0] }}", "{{ row[1] | join }}"),
        ("a.json", '{"x": {"q": "1 + 2", "a": 3}, "y": {"q": "3 + 4", "a": 7}}', "{{ q }}", "{{ a }}"),
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
    assert dataclasses.asdict(data.rows[0]) == {"number": 0, "input": "1 + 2", "fields": {}, "group": None}


def test_a_slice_keeps_the_numbers_of_the_file(tmp_path):
    """Rows are known by their place in the file."""
    found = load(task(tmp_path, "a.txt", "".join(f"{i} + 1\n" for i in range(9)), "{{ line }}", None), 2, 5)
    assert [(row.number, row.input) for row in found.rows] == [(2, "2 + 1"), (3, "3 + 1"), (4, "4 + 1")]


@pytest.mark.parametrize(
    ("file", "content", "input", "said"),
    [
        ("a.txt", "1 + 2\nx\n", "{{ line }}", "a.txt:2: 'x' is not an input of sums"),
        ("a.jsonl", '{"q": "1 + 2"}\n{"q":\n', "{{ q }}", "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"q": "1 + 2"}\n1\n', "{{ q }}", "a.jsonl:2: a row must be a mapping of fields or a list, not 1"),
        ("a.json", '[{"q": "1 + 2"}, {"q": "x"}]', "{{ q }}", "a.json: row 2: 'x' is not an input of sums"),
        ("a.json", '[{"q": "1 + 2"}, {"p": "x"}]', "{{ q }}", "a.json:data.input: row 2: unknown variable 'q'"),
        ("a.json", '[{"q": "1 + 2"}, 7]', "{{ q }}", "a.json: row 2: a row must be a mapping"),
        ("a.json", '{"a": {"q": "1 + 2"}, "b": 7}', "{{ q }}", "expected a list of rows"),
        ("a.jsonl", '{"q": "1 + 2"}\n', "{{ qq }}", "sums.yaml:8:data.input: unknown variable 'qq'. Did you mean 'q'?"),
        ("a.json", '{"q": "1 + 2"}', "{{ q }}", "expected a list of rows"),
        ("a.csv", "q,a\n1 + 2\n", "{{ q }}", "a.csv:2: the row does not have the 2 fields"),
        ("a.csv", "q,a\n1 + 2,3,4\n", "{{ q }}", "a.csv:2: the row does not have the 2 fields"),
        ("a.tsv", "1 + 2\n", "{{ line }}", "unknown kind '.tsv'"),
        ("a.txt", "", "{{ line }}", "no rows"),
    ],
)
def test_a_faulty_file_is_reported_with_its_line(tmp_path, file, content, input, said):
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


# Checksums, other files, the hub

ROWS = '{"q": "1 + 2", "a": 3}\n{"q": "3 + 4", "a": 7}\n'


def with_data(tmp_path, **more: str) -> Task:
    path = tmp_path / "sums.yaml"
    lines = "".join(f", {key}: '{value}'" for key, value in more.items())
    path.write_text(
        TASK.format(file="FILE", input="{{ q }}", gold="'{{ a }}'")
        .replace("file: FILE, ", "")
        .replace("}}'}", "}}'" + lines + "}")
    )
    return Task.load(path)


def test_a_file_with_another_checksum_is_refused(tmp_path):
    """What was measured on one file is not measured on another in silence; both sums are named."""
    (tmp_path / "a.jsonl").write_text(ROWS)
    right = hashlib.sha256(ROWS.encode()).hexdigest()
    assert len(load(with_data(tmp_path, file="a.jsonl", sha256=right)).rows) == 2
    (tmp_path / "a.jsonl").write_text(ROWS + "\n")
    with pytest.raises(ConfigError, match=rf"a\.jsonl is another one: its SHA-256 is [0-9a-f]{{64}}, expected {right}"):
        load(with_data(tmp_path, file="a.jsonl", sha256=right))
    with pytest.raises(ConfigError, match=r"data\.sha256"):
        with_data(tmp_path, file="a.jsonl", sha256=right.upper())


def test_another_file_can_take_the_place_of_the_tasks_own(tmp_path, monkeypatch):
    """By a path from the current folder; the templates stay, and so do the gold answers' ways."""
    (tmp_path / "a.jsonl").write_text(ROWS)
    (tmp_path / "b.json").write_text('[{"q": "5 + 6", "a": 11}]')
    monkeypatch.chdir(tmp_path)
    data = load(with_data(tmp_path, file="a.jsonl", sha256="0" * 64), source="b.json")
    assert [row.input for row in data.rows] == ["5 + 6"]
    assert data.gold.grade(data.rows[0], "11")


def hub(monkeypatch, download) -> None:
    """A hub that is a function."""
    errors = types.SimpleNamespace(EntryNotFoundError=KeyError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=download, errors=errors))


def test_a_file_on_the_hub_is_fetched_by_its_address(tmp_path, monkeypatch):
    """Repository, revision and path go to the hub's own client; the checksum is checked all the same."""
    asked = []

    def download(repo, file, *, repo_type, revision):
        asked.append((repo, file, repo_type, revision))
        (tmp_path / "fetched.jsonl").write_text(ROWS)
        return str(tmp_path / "fetched.jsonl")

    hub(monkeypatch, download)
    assert len(load(with_data(tmp_path, file="hf://datasets/some/sums@v1/main/test.jsonl")).rows) == 2
    assert len(load(with_data(tmp_path, file="hf://datasets/some/sums/test.jsonl")).rows) == 2
    assert asked == [
        ("some/sums", "main/test.jsonl", "dataset", "v1"),
        ("some/sums", "test.jsonl", "dataset", None),
    ]
    with pytest.raises(ConfigError, match="is another one: its SHA-256"):
        load(with_data(tmp_path, file="hf://datasets/some/sums/test.jsonl", sha256="0" * 64))


def test_what_the_hub_refuses_is_one_line(tmp_path, monkeypatch):
    """No such file, no network, no client, no address: what was wanted and why it cannot be had."""

    def refuse(*args, **how):
        raise OSError("404 Client Error.\n\nlong explanation")

    hub(monkeypatch, refuse)
    made = with_data(tmp_path, file="hf://datasets/some/sums/test.jsonl")
    with pytest.raises(ConfigError, match=r"^cannot fetch hf://datasets/some/sums/test\.jsonl: 404 Client Error\.$"):
        load(made)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="needs huggingface_hub"):
        load(made)
    with pytest.raises(ConfigError, match="is written hf://datasets/OWNER/NAME"):
        load(with_data(tmp_path, file="hf://some/sums"))


def test_parquet_needs_its_library_and_says_so(tmp_path, monkeypatch):
    """Without pyarrow the message names it; with it, rows are counted from 1."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    made = with_data(tmp_path, file="a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs pyarrow"):
        load(made)
    batch = types.SimpleNamespace(nbytes=64, to_pylist=lambda: [{"q": "1 + 2", "a": 3}, {"q": "x", "a": 1}])
    names = types.SimpleNamespace(names=["q", "a"])
    file = types.SimpleNamespace(schema_arrow=names, iter_batches=lambda batch_size: [batch])
    parquet = types.SimpleNamespace(ParquetFile=lambda source: file)
    fake = types.SimpleNamespace(ArrowException=RuntimeError, BufferReader=lambda content: content, parquet=parquet)
    monkeypatch.setitem(sys.modules, "pyarrow", fake)
    with pytest.raises(ConfigError, match=r"a\.parquet: row 2: 'x' is not an input of sums"):
        load(made)
