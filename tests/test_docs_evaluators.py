"""The manual page of the evaluators: the tables are the code."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

import pytest
from test_docs_searches import ROOT

from treeagent import registry

TEXT = (ROOT / "docs" / "evaluators.md").read_text()
OURS = {
    name: cls
    for name in registry.names("evaluator")
    if (cls := registry.load("evaluator", name)).__module__.startswith("treeagent.strategies.")
}


def rows(head: str) -> dict[str, list[str]]:
    """The rows of the table with this head, by the name in the first cell."""
    lines = TEXT.split(head)[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


def test_the_table_lists_every_evaluator() -> None:
    """With what it does and what it costs."""
    table = rows("| evaluator | source | what it does | prompt | needs | requests |")
    assert set(table) == set(OURS)
    assert all(row[1] and row[4] for row in table.values())


@pytest.mark.parametrize("name", OURS)
def test_the_page_gives_the_options_and_their_defaults(name: str) -> None:
    """As they are in the code, in their order, and each is explained below the table."""
    cls = OURS[name]
    options = [
        f"{field.name}={field.default}".replace("\n", "\\n") for field in fields(cls) if is_dataclass(cls)
    ]  # fmt: skip
    [cell] = rows("| evaluator | options and their defaults |")[name]
    assert re.findall(r"`([^`]+)`", cell) == options
    explained = TEXT.split("## Options")[1].split("\n## ")[0]
    assert all(re.search(rf"^- .*`{option.split('=')[0]}`", explained, re.MULTILINE) for option in options)


@pytest.mark.parametrize("name", OURS)
def test_the_papers_of_an_evaluator_are_cited_where_it_is_written(name: str) -> None:
    """An arXiv number in the table is one in the evaluator's file."""
    source = rows("| evaluator | source | what it does | prompt | needs | requests |")[name][0]
    code = (ROOT / "strategies" / f"{OURS[name].__module__.split('.')[-1]}.py").read_text()
    assert all(number in code for number in re.findall(r"arxiv\.org/abs/([\d.]+)", source))
