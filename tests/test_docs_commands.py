"""Every command that a document shows is one that the program takes; nothing is run here."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from test_docs_cli import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\w+=\S+ )*(?:treeagent|python -m treeagent[\w.]+) .*", re.MULTILINE)
WITHIN = re.compile(r"`((?:treeagent|python -m treeagent[\w.]+) [^`\n]*)`")
ENDS = ("||", "&&", ">", ";")
USAGE = typer.BadParameter.__mro__[1]
"""The class of all errors about words, which typer does not export."""
ANY_NAME = ("COMMAND", "NAME", "--help", "doubling-steps")
"""What stands in the place of a command; the last is of the package of the plug-in tutorial."""


def words_of(line: str) -> list[str]:
    """The words of a command; without the variables before it and what a shell does after it."""
    words = shlex.split(line, comments=True)
    while "=" in words[0]:
        del words[0]
    return words[: next((place for place, word in enumerate(words) if word in ENDS), len(words))]


def shown(document: Path) -> list[tuple[list[str], bool]]:
    """The commands of a document, and whether they stand in a block, and so are whole."""
    text = document.read_text()
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ")
    found = [(words_of(line), True) for line in LINE.findall(blocks)]
    return found + [(words_of(line), False) for line in WITHIN.findall(BLOCK.sub("", text)) if "..." not in line]


def refusal(words: list[str], *, whole: bool) -> str | None:
    """What the command line finds wrong with the words of a command; a part of one may lack what is required."""
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
    if name is None:
        partial = not whole and any(each.startswith(f"{words[0]} ") for each in COMMANDS)
        return None if partial or words[0] in ANY_NAME else "there is no such command"
    try:
        COMMANDS[name].make_context(name, words[len(name.split()) :])
    except USAGE as error:
        lacking = type(error).__name__ in ("MissingParameter", "BadOptionUsage")
        return None if lacking and not whole else error.format_message()
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_the_command_line_takes_every_command_that_is_shown(document: Path) -> None:
    """Names, options and the kinds of their values, also where a model or a server is missing to run it."""
    commands = [(words[1:], whole) for words, whole in shown(document) if words[0] == "treeagent" and len(words) > 1]
    refused = {" ".join(words): refusal(words, whole=whole) for words, whole in commands}
    assert {words: why for words, why in refused.items() if why} == {}


class ParsedError(Exception):
    """A program has accepted its words."""


def program(name: str) -> ModuleType:
    """The module that ``python -m`` runs."""
    module = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


PROGRAMS = sorted({tuple(words) for document in DOCUMENTS for words, _ in shown(document) if words[0] == "python"})


@pytest.mark.parametrize("words", PROGRAMS, ids=lambda words: " ".join(words[2:5]))
def test_every_program_takes_the_words_that_are_shown(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``python -m``, up to where its arguments are read."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser: argparse.ArgumentParser, *given: Any) -> None:
        parse(parser, *given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    monkeypatch.setattr(sys, "argv", list(words[2:]))
    with pytest.raises(ParsedError):
        program(words[2]).main()


def test_a_wrong_command_is_found() -> None:
    """An option that is gone, a command that never was, and a value of another kind."""
    assert "No such option: --beams" in (refusal(["solve", "--task", "game24", "--beams", "3"], whole=True) or "")
    assert refusal(["prove", "--task", "game24"], whole=True) == "there is no such command"
    assert "valid integer" in (refusal(["eval", "-t", "game24", "--limit", "few"], whole=True) or "")
    assert "--task" in (refusal(["solve"], whole=True) or "")
    assert refusal(["solve"], whole=False) is None
