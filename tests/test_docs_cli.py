"""The manuals of the command line and of the journal against the real thing.

``python tests/test_docs_cli.py`` writes the tables of options anew, one a command, and the index of all options.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer.main
from cli_tools import ORACLE, call

from treeagent import registry
from treeagent.cli import app
from treeagent.cli.arguments import EXIT_CODES
from treeagent.cli.plugin_commands import Extra

DOCS = Path(__file__).parent.parent / "docs"
CLI = DOCS / "cli.md"
PAGES = {path.stem: path for path in sorted((DOCS / "cli").glob("*.md"))}
REST = "tasks-models-plugins"
"""The page of the commands that have none of their own."""
BLOCK = re.compile(r"<!-- options: ([\w ]+) -->\n(.*?)<!-- end -->", re.DOTALL)
HEAD = ["| option | default | meaning |", "| --- | --- | --- |"]


def own_commands() -> dict[str, Any]:
    """Every command as typer made it, those of groups too, but those of other people's plug-ins."""
    ours = {entry.name for entry in registry.entries("command") if entry.module.startswith("treeagent.")}
    commands: dict[str, Any] = {}
    for name, found in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if isinstance(found, Extra):
            commands |= {name: found.real()} if name in ours else {}
        elif inner := getattr(found, "commands", None):
            commands |= {f"{name} {word}": each for word, each in inner.items()}
        else:
            commands[name] = found
    return commands


COMMANDS = own_commands()


def rows(name: str) -> dict[str, str]:
    """The options of a command and their rows in a Markdown table."""
    found = {}
    for parameter in COMMANDS[name].params:
        if parameter.name == "help":
            continue
        options = [*parameter.opts, *parameter.secondary_opts]
        words = options if options[0].startswith("-") else [parameter.metavar or parameter.name.upper()]
        names = ", ".join(f"`{word}`" for word in words)
        default = getattr(parameter.default, "value", parameter.default)
        shown = "required" if parameter.required else "" if default is None or default is False else f"`{default}`"
        found[words[0]] = f"| {names} | {shown} | {parameter.help} |".replace("|  |", "| |")
    return found


def table(name: str) -> str:
    """The options of a command: first those that no other command has so, then the rest."""
    elsewhere = {row for other in COMMANDS if other != name for row in rows(other).values()}
    own = [row for row in rows(name).values() if row not in elsewhere]
    common = [row for row in rows(name).values() if row in elsewhere]
    lines = [*HEAD, *own] if own else []
    if common:
        lines += [*(["", "As in other commands:", ""] if own else []), *HEAD, *common]
    return "\n".join(lines) + "\n"


def index() -> str:
    """Every option with the commands that have it."""
    having: dict[str, list[str]] = {}
    for name in COMMANDS:
        for option in rows(name):
            if option.startswith("-"):
                page = name if name in PAGES else REST
                having.setdefault(option, []).append(f"[{name}](cli/{page}.md)")
    lines = [f"| `{option}` | {', '.join(having[option])} |" for option in sorted(having)]
    return "\n".join(["| option | commands |", "| --- | --- |", *lines]) + "\n"


def rewritten(text: str) -> str:
    """A page with its tables as they should be."""

    def block(found: re.Match[str]) -> str:
        return f"<!-- options: {found[1]} -->\n{index() if found[1] == 'index' else table(found[1])}<!-- end -->"

    return BLOCK.sub(block, text)


def test_the_tables_of_options_are_the_commands_own() -> None:
    """Every option with its default and its help; a stale table is written anew by running this file."""
    shown = []
    for page in (CLI, *PAGES.values()):
        text = page.read_text()
        assert rewritten(text) == text
        shown += [name for name, _ in BLOCK.findall(text)]
    assert sorted(shown) == sorted(["index", *(name for name in COMMANDS if rows(name))])


def test_every_command_is_listed_with_its_page_and_no_other() -> None:
    """Groups count by their commands."""
    listed = re.findall(r"^\| \[`treeagent ([\w ]+)`\]\(cli/([\w-]+)\.md\)", CLI.read_text(), re.MULTILINE)
    assert dict(listed) == {name: name if name in PAGES else REST for name in COMMANDS}


def test_exit_codes_are_those_of_the_program_and_stand_in_its_help():
    """One table, one truth."""
    listed = dict(re.findall(r"^\| (\d+) \| (.*) \|$", CLI.read_text(), re.MULTILINE))
    assert listed == {str(code): meaning for code, meaning in EXIT_CODES.items()}
    shown = " ".join(call("solve", "--help").stdout.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


def dotted(found: dict[str, Any]) -> set[str]:
    """Keys, with those of nested objects; settings and an engine's figures are free."""
    keys = set()
    for key, value in found.items():
        nested = isinstance(value, dict) and key not in ("settings", "engine", "cut_off", "models")
        keys |= {f"{key}.{inner}" for inner in value} if nested else {key}
    return keys


def test_the_keys_of_the_json_result_are_documented():
    """All of them, and none that is not there."""
    section = PAGES["solve"].read_text().split("## What `--json` prints")[1].split("## ")[0]
    listed = set(re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE))
    assert listed == dotted(json.loads(call("solve", *ORACLE, "--json").stdout))


def test_the_keys_of_compare_are_documented():
    """The object, its difference and its backends."""
    section = PAGES["compare"].read_text().split("## What `compare --json` prints")[1]
    words = ["-t", "game24", "-b", "helpers:Oracle,helpers:Oracle:wrong", "-i", "4 9 10 13", "--json"]
    found = json.loads(call("compare", *words).stdout)
    keys = [re.findall(r"`(\w+)`", line) for line in section.splitlines() if line.startswith("| `")]
    assert keys[0] + [row[0] for row in keys[1:]] == list(found)
    assert keys[-2][1:] == list(found["difference"])
    assert keys[-1][1:] == list(found["backends"][0])


def test_the_events_of_a_journal_are_documented(tmp_path):
    """Every type with its fields, as runs of every kind write them."""
    listed = {}
    for line in (DOCS / "reference" / "journal.md").read_text().splitlines():
        if line.startswith("| `"):
            _, name, fields, *_ = line.split("|")
            listed[name.strip(" `")] = set(re.findall(r"`(\w+)`", fields))
    kinds = (
        ["-e", "value"], ["-e", "choice"], ["--set", "backend.fail_at=3"], ["--set", "backend.refuse_at=3"],
        ["--speculate", "4"], ["-s", "mcts"],
    )  # fmt: skip
    engine = ["-t", "game24", "-i", "4 5 6 10", "-b", "seed", "--set", "backend.device=cpu", "--max-calls", "3"]
    script = tmp_path / "script.yaml"
    script.write_text("- {match: 'Judgement:$', text: good}\n- {match: '', text: 'Code: 6 * 7'}\n")
    acting = ["-t", "arithmetic_tools", "-s", "greedy", "-b", "scripted", "-m", str(script)]
    written: dict[str, set[str]] = {}
    for number, words in enumerate([*([*ORACLE, *kind] for kind in kinds), engine, acting]):
        path = tmp_path / f"{number}.jsonl"
        call("solve", *words, "--journal", str(path))
        call("resume", str(path), "--allow-code")
        for event in map(json.loads, path.read_text().splitlines()):
            kind = event.pop("type")
            assert event.pop("t") >= 0
            assert written.setdefault(kind, set(event)) == set(event)
    result = json.loads(call("solve", *ORACLE, "--json").stdout)
    assert written.pop("end") == set(result)
    listed.pop("end")
    assert listed == written


if __name__ == "__main__":
    for path in (CLI, *PAGES.values()):
        path.write_text(rewritten(path.read_text()))
