"""The manuals of the command line and of the journal against the real thing.

``python tests/test_docs_cli.py`` writes the tables of options anew.
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
BLOCK = re.compile(r"<!-- options: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def command(name: str) -> Any:
    """A command as typer made it, a plug-in's too."""
    found = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return found.real() if isinstance(found, Extra) else found


def own_commands() -> dict[str, Any]:
    """Every command but those of other people's plug-ins."""
    ours = {entry.name for entry in registry.entries("command") if entry.module.startswith("treeagent.")}
    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: each for name, each in found.items() if name in ours or not isinstance(each, Extra)}


def table(name: str) -> str:
    """The options of a command as a Markdown table."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for parameter in command(name).params:
        if parameter.name == "help":
            continue
        options = [*parameter.opts, *parameter.secondary_opts]
        words = options if options[0].startswith("-") else [parameter.metavar]
        names = ", ".join(f"`{word}`" for word in words)
        default = getattr(parameter.default, "value", parameter.default)
        shown = "required" if parameter.required else "" if default is None or default is False else f"`{default}`"
        rows.append(f"| {names} | {shown} | {parameter.help} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def rewritten(text: str) -> str:
    """The manual with its tables as they should be."""
    return BLOCK.sub(lambda found: f"<!-- options: {found[1]} -->\n{table(found[1])}<!-- end -->", text)


def test_the_tables_of_options_are_the_commands_own():
    """Every option with its default and its help; a stale table is written anew by running this file."""
    assert rewritten(CLI.read_text()) == CLI.read_text()
    plain = {name for name in own_commands() if not getattr(command(name), "commands", None)}
    assert {name for name, _ in BLOCK.findall(CLI.read_text())} == plain - {"plugins"}  # which has no options


def test_every_command_is_listed_and_no_other():
    """Groups count by their commands."""
    real = set()
    for name, found in own_commands().items():
        inner = getattr(found, "commands", None)
        real |= {f"{name} {word}" for word in inner} if inner else {name}
    assert set(re.findall(r"^\| `treeagent ([\w ]+)`", CLI.read_text(), re.MULTILINE)) == real


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
    section = CLI.read_text().split("### What `--json` prints")[1].split("## ")[0]
    listed = set(re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE))
    assert listed == dotted(json.loads(call("solve", *ORACLE, "--json").stdout))


def test_the_keys_of_compare_are_documented():
    """The object, its difference and its backends."""
    section = CLI.read_text().split("### What `compare --json` prints")[1].split("\n## ")[0]
    words = ["-t", "game24", "-b", "helpers:Oracle,helpers:Oracle:wrong", "-i", "4 9 10 13", "--json"]
    found = json.loads(call("compare", *words).stdout)
    rows = [re.findall(r"`(\w+)`", line) for line in section.splitlines() if line.startswith("| `")]
    assert rows[0] + [row[0] for row in rows[1:]] == list(found)
    assert rows[-2][1:] == list(found["difference"])
    assert rows[-1][1:] == list(found["backends"][0])


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
    CLI.write_text(rewritten(CLI.read_text()))
