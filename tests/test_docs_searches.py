"""The manual of the searches against the registered ones."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from treeagent import registry

ROOT = Path(__file__).parent.parent
MANUAL = (ROOT / "docs" / "searches.md").read_text()
OURS = {entry.name: entry.load() for entry in registry.entries("search") if entry.module.startswith("treeagent.")}


def rows(header: str) -> dict[str, list[str]]:
    """The cells of each row of the table with such a first line, by the name in its first cell."""
    table = MANUAL.split(header)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_table_lists_every_search() -> None:
    """With what it evaluates, when to use it and what it costs; all but ``io`` name their source."""
    table = rows("| search | source | what it evaluates | when to use it | expansions |")
    assert set(table) == set(OURS)
    for name, (source, *rest) in table.items():
        assert all(rest), name
        assert source or name == "io"


@pytest.mark.parametrize("name", OURS)
def test_the_manual_gives_the_options_and_their_defaults(name: str) -> None:
    """As they are in the code, in their order, and each is explained below the table."""
    cls = OURS[name]
    options = [f"{field.name}={field.default}" for field in fields(cls)] if is_dataclass(cls) else []
    assert re.findall(r"`([^`]+)`", rows("| search | options and their defaults |")[name][0]) == options
    explained = MANUAL.split("| search | options and their defaults |")[1]
    assert all(re.search(rf"^- .*`{option.split('=')[0]}`", explained, re.MULTILINE) for option in options)


@pytest.mark.parametrize("name", OURS)
def test_the_papers_of_a_search_are_cited_where_it_is_written(name: str) -> None:
    """An arXiv number in the table is one in the head of the search's file."""
    [source, *_] = rows("| search | source | what it evaluates | when to use it | expansions |")[name]
    head = (ROOT / "strategies" / f"{OURS[name].__module__.split('.')[-1]}.py").read_text().split('"""')[1]
    assert all(number in head for number in re.findall(r"arxiv\.org/abs/([\d.]+)", source))


def test_the_readme_names_every_search() -> None:
    """The first page leaves none out."""
    [sentence] = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("Searches are ")]
    assert set(OURS) <= set(re.findall(r"`([\w-]+)`", sentence))
