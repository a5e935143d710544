"""The pages about the engine against the engine: options, drafters, figures, modes, and the commands they show.

``python tests/test_seed_docs.py`` writes defaults and commands anew.
"""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shlex
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bench_tables
import pytest
import torch
from cli_tools import call
from engine_pages import DOCS, FIGURES, GUIDE, OPTIONS, PAGES, RESULTS, ROOT, names, part
from seed_tools import fixed_costs
from test_readme import BLOCK

from treeagent.backends.bench.config.modes import MODES
from treeagent.backends.bench.results.record import machine, to_json
from treeagent.backends.models.model import DTYPES
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.config import POLICIES
from treeagent.backends.seed.drafters.registry import NAMES
from treeagent.backends.seed.verifiers.rejection import VERIFIERS
from treeagent.reply import Round

ROW = re.compile(r"^\| `([\w.+-]+)` \| (.*?)\| (.*) \|$", re.MULTILINE)
COMMAND = re.compile(r"^treeagent bench .*?--json (\S+)(.*)$", re.MULTILINE)
OPTION_TABLES = ("names: options", "names: research options")


def default(name: str) -> Any:
    """An option's default."""
    return inspect.signature(SeedBackend).parameters[name].default


def rewritten(page: Path) -> str:
    """A page with the defaults of the code, and with the commands of the measurements that are there."""

    def option(row: re.Match[str]) -> str:
        value = default(row[1])
        return f"| `{row[1]}` | {'' if value is None else f'`{value}` '}| {row[3]} |"

    def command(line: re.Match[str]) -> str:
        file = ROOT / line[1]
        if not file.exists():
            return line[0]
        return f"{bench_tables.command_of(json.loads(file.read_text()))} --json {line[1]}{line[2]}"

    text = page.read_text()
    tables = OPTION_TABLES if page == OPTIONS else ()
    for name, pattern, replace in [*((table, ROW, option) for table in tables), ("commands", COMMAND, command)]:
        if old := part(name, page):
            text = text.replace(old, pattern.sub(replace, old))
    return text


def test_options_and_their_defaults_are_those_of_the_engine() -> None:
    """Every option of the command line with the default of the class, and every word that it takes."""
    listed = names("options", OPTIONS) + names("research options", OPTIONS)
    assert sorted(listed) == sorted([*SeedBackend.options, "model"])
    assert sorted([*listed, "shelf"]) == sorted(inspect.signature(SeedBackend).parameters)
    meaning = {name: row for table in OPTION_TABLES for name, _, row in ROW.findall(part(table, OPTIONS))}
    for option, words in (("policy", POLICIES), ("verify", VERIFIERS), ("dtype", DTYPES)):
        assert {str(default(option)), *re.findall(r"`([^`]+)`", meaning[option])} >= set(words)


def test_drafters_are_those_of_the_engine() -> None:
    """Each has a row; a table and a shape of the draft model make up every combined name."""
    listed = names("drafters", OPTIONS)
    assert sorted(listed) == sorted(name for name in NAMES if "+" not in name)
    combined = [name.split("+") for name in NAMES if "+" in name]
    assert {word for pair in combined for word in pair} == set(listed) - {"auto", "none"}


@pytest.mark.parametrize("page", [OPTIONS, *RESULTS], ids=lambda page: page.name)
def test_defaults_and_commands_are_those_of_the_code_and_of_the_measurements(page: Path) -> None:
    """A stale one is written anew by running this file."""
    assert rewritten(page) == page.read_text()


def test_every_figure_is_explained_in_its_order() -> None:
    """What ``meter`` returns, key by key, and the fields of a round."""
    backend = SeedBackend("mini")
    with fixed_costs():
        backend.load()
    assert names("figures", FIGURES) == list(backend.meter()())
    assert names("rounds", FIGURES) == [field.name for field in fields(Round)]


def commands() -> list[str]:
    """The commands that made the tables."""
    return [line for page in RESULTS for line in part("commands", page).splitlines() if line.startswith("treeagent")]


def test_a_command_can_be_had_back_from_what_it_measures() -> None:
    """A command that is made from the report of a plan gives the same plan; a report names the device that is there."""
    lines = commands()
    assert len({COMMAND.match(line)[1] for line in lines}) == len(lines)  # type: ignore[index]
    for line in (line for line in lines if "--device" not in line):
        plan = bench_tables.planned(shlex.split(line)[2:])
        where = machine(plan.settings.threads, torch.device("cpu"), None)
        report = json.loads(json.dumps(to_json(plan, [], where, datetime.now(timezone.utc))))
        assert bench_tables.planned(shlex.split(bench_tables.command_of(report))[2:]) == plan


def test_every_bench_command_of_the_documents_is_a_valid_plan() -> None:
    """Commands for other machines included."""
    texts = [path.read_text() for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]]
    lines = [line for text in texts for line in re.findall(r"(?:^|`)(treeagent bench [^`\n]+)", text, re.MULTILINE)]
    assert len(lines) > 10
    assert all(bench_tables.planned(shlex.split(line)[2:]).plans for line in lines)


def test_the_modes_of_the_guide_are_those_of_the_benchmark() -> None:
    """In their order; other pages name no other mode."""
    assert names("modes", GUIDE) == list(MODES)
    for page in PAGES:
        words = re.findall(r"`(seed-[\w+-]+)`", page.read_text())
        assert set(words) <= set(MODES), page


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).replace(" ", "-").lower() for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    """Links within the documentation."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_no_page_about_the_engine_is_longer_than_it_may_be() -> None:
    """At most 3,000 words of prose; tables and commands that are made from files do not count."""
    for page in PAGES:
        prose = re.sub(r"<!-- (?:table: \S+|commands) -->.*?<!-- end -->", "", page.read_text(), flags=re.DOTALL)
        assert len(prose.split()) <= 3000, page


README = (ROOT / "README.md").read_text()
LINES = [
    line
    for page in PAGES
    for kind, body in BLOCK.findall(page.read_text())
    if kind == "sh"
    for line in body.splitlines()
    if line not in README
]
PROGRAMS = [body for page in PAGES for kind, body in BLOCK.findall(page.read_text()) if kind == "python"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed_times: None) -> None:
    """Run in an empty folder, without measuring this machine."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("elsewhere")
def test_a_shell_command_of_the_pages_runs(line: str) -> None:
    """Those that the README shows as well are run there."""
    program, *words = shlex.split(line)
    assert program == "treeagent"
    result = call(*words)
    assert result.exit_code == 0, result.output


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.usefixtures("elsewhere")
def test_a_python_block_of_the_pages_runs(program: str) -> None:
    """Each program works when pasted into a file."""
    Path("program.py").write_text(program)
    runpy.run_path("program.py")


if __name__ == "__main__":
    for each in (OPTIONS, *RESULTS):
        each.write_text(rewritten(each))
