"""Control characters of texts reach no terminal and no picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import Agent, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.cli import app
from treeagent.text import printable

EVIL = "a\x1b[31m\x07\x9b2J\u202e\x00\x7f\x0b b"
TASK = r"""
name: odd
description: "D \x1b]0;x\x07"
metadata: {version: 1}
input: {description: "F \x1b[2J", examples: ["e\x1b[2J"]}
depth: 1
prompts: {propose: "P \x1b[2J {{ input }}", value: "V {{ state }}", io: "I"}
"""


def plain(text: str) -> bool:
    """Whether nothing in a text could control a terminal."""
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[0m", "a\ufffd[0m"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\rb", "a\ufffdb"),
        ("a\xa0b\u3000c", "a b c"),
        ("\u2028\u202e\x85", "\ufffd\ufffd\ufffd"),
        ("grün 漢字 \U0001f600", "grün 漢字 \U0001f600"),
    ],
)
def test_what_is_printed_is_printable(text: str, shown: str) -> None:
    """Every kind of blank is a blank, a line break is a line break, the rest is replaced."""
    assert printable(text) == shown


@pytest.mark.parametrize("form", ["mermaid", "svg", "json"])
def test_an_export_holds_no_control_characters(form: str, tmp_path: Path) -> None:
    """On standard output and in a file."""
    path = tmp_path / "run.jsonl"
    backend = ScriptedBackend(lambda request: EVIL if request.prompt.startswith("P") else "sure")
    Agent(YamlTask(TASK), "bfs", backend=backend).solve(EVIL, journal=path)
    done = CliRunner().invoke(app, ["export", str(path), "-f", form])
    assert done.exit_code == 0
    assert plain(done.stdout)
    assert CliRunner().invoke(app, ["export", str(path), "-f", form, "-o", str(tmp_path / "out")]).exit_code == 0
    assert plain((tmp_path / "out").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words", [["tasks", "show", "TASK"], ["tasks", "validate", "TASK"], ["solve", "--task", "TASK", "--search", "io"]]
)
def test_commands_print_no_control_characters(words: list[str], tmp_path: Path) -> None:
    """Descriptions, examples, prompts, inputs and answers; on both streams."""
    (tmp_path / "odd.yaml").write_text(TASK)
    (tmp_path / "rules.yaml").write_text('[{match: ".", text: "a\\e[31m\\a b"}]')
    words = [str(tmp_path / "odd.yaml") if word == "TASK" else word for word in words]
    if words[0] == "solve":
        words += ["--backend", "scripted", "--model", str(tmp_path / "rules.yaml"), "--input", EVIL]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert plain(done.stdout)
    assert plain(done.stderr)
