"""A page of ``treeagent view`` in a real browser, and what a test does to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find
from cli_tools import ORACLE, call

from treeagent.runtime.journal import read
from treeagent.viewer.page import page
from treeagent.viewer.run_data import run_data

DETAILS = "document.getElementById('details')"
QUICK = 3.0
"""Seconds in which ten thousand thoughts must be on the screen."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    assert program is not None
    made = Browser(program, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a solved run: 60 thoughts."""
    path = tmp_path_factory.mktemp("runs") / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path))
    return path


def shown(browser: Browser, folder: Path, *journals: Path) -> float:
    """Open the page of some journals; returns the seconds that took."""
    target = folder / "page.html"
    target.write_text(page([run_data(read(path), path.name) for path in journals]))
    return browser.open(target)


def click(browser: Browser, pane: int, thought: int) -> None:
    """A click of the mouse on a thought of the canvas, which must be in view."""
    at = browser.run(
        f"(() => {{ const box = document.querySelectorAll('.pane canvas')[{pane}].getBoundingClientRect();"
        f" const at = treeagent.place({pane}, {thought});"
        " return [box.left + at.x, box.top + at.y, box.right, box.bottom]; })()"
    )
    assert at[0] < at[2]
    assert at[1] < at[3]
    browser.click(at[0], at[1])


def details(browser: Browser) -> str:
    """The text of the panel."""
    found: str = browser.run(f"{DETAILS}.innerText")
    return found


def key(browser: Browser, name: str) -> None:
    """A key pressed on the tree."""
    browser.run("document.querySelector('.pane canvas').focus()")
    browser.press(name, text=name if len(name) == 1 else "")
