"""Two runs side by side on the page of ``treeagent view``."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, find
from cli_tools import ORACLE, call
from journals import Story
from shown_page import DETAILS, details, key, shown
from shown_page import browser as browser  # noqa: PLC0414  the fixture
from shown_page import solved as solved  # noqa: PLC0414  the fixture

from treeagent.runtime.journal import read

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")


def test_two_runs_side_by_side_mark_the_first_difference(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """The run of a judge that is always wrong: both trees are there, and one key leads to where they part."""
    other = tmp_path / "wrong.jsonl"
    call("solve", *ORACLE, "-m", "wrong", "--journal", str(other))
    shown(browser, tmp_path, solved, other)
    assert browser.run("document.querySelectorAll('.pane').length") == 2
    counts = [sum(event.type in ("thought", "dropped") for event in read(path)) for path in (solved, other)]
    assert browser.run("treeagent.shown()") == [count + 1 for count in counts]
    judged = [next(event.data for event in read(path) if event.type == "judged") for path in (solved, other)]
    assert judged[0]["labels"] != judged[1]["labels"]
    key(browser, "d")
    assert browser.run(f"{DETAILS}.dataset.thought") == str(judged[0]["id"])
    first = next(event.data["text"] for event in read(solved) if event.data.get("id") == judged[0]["id"])
    words = browser.run(f"{DETAILS}.querySelector('.first').textContent")
    assert f"First difference: value at '{first}', sample 0: token ids differ" in words
    said = browser.run(f"[...{DETAILS}.querySelectorAll('code')].map(each => JSON.parse(each.textContent))")
    assert said == [data["labels"][0] for data in judged]
    places = [browser.run(f"treeagent.place({pane}, {judged[0]['id']}).y") for pane in (0, 1)]
    heights = browser.run("[...document.querySelectorAll('.pane canvas')].map(each => each.clientHeight)")
    assert all(0 < y < height for y, height in zip(places, heights, strict=True))
    assert browser.errors == []


def test_equal_runs_are_said_to_be_equal(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """There is no difference to go to."""
    shown(browser, tmp_path, solved, solved)
    assert "Both runs grew the same tree" in details(browser)
    assert browser.run("document.getElementById('differ').hidden")


def test_two_time_lines_have_one_scale(browser: Browser, tmp_path: Path) -> None:
    """A second is as wide in the shorter run as in the longer one."""
    paths = []
    for name, last in (("short", 1.0), ("long", 9.0)):
        story = Story()
        story.reply("a", "propose", 0, "x")
        story.end(None)
        story.lines[-1]["t"] = last
        paths.append(story.write(tmp_path / f"{name}.jsonl"))
    shown(browser, tmp_path, *paths)
    assert browser.run("treeagent.scales()") == [9.0, 9.0]
    assert browser.errors == []
