"""A task with a data file beside it, and what is said of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import ConfigError, Task
from treeagent.cli import app
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
