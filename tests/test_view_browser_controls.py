"""The page of ``treeagent view`` obeys the mouse, the keyboard, its time line and its search box."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, find
from journals import Story
from shown_page import DETAILS, details, key, shown
from shown_page import browser as browser  # noqa: PLC0414  the fixture
from shown_page import solved as solved  # noqa: PLC0414  the fixture

from treeagent.runtime.journal import read

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")


def test_the_search_can_be_stepped_through(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """At the first event there is the input alone; each event adds what it tells, and values come when judged."""
    shown(browser, tmp_path, solved)
    events = [event for event in read(solved)[1:] if event.type != "early"]
    first = next(place for place, event in enumerate(events) if event.type == "thought")
    browser.run("treeagent.go(0)")
    assert browser.run("treeagent.shown()") == [1]
    browser.run(f"treeagent.go({first})")
    assert browser.run("treeagent.shown()") == [1]
    key(browser, ".")
    assert browser.run("treeagent.shown()") == [2]
    assert events[first].data["text"] in browser.run("document.getElementById('now').textContent")
    key(browser, ",")
    assert browser.run("treeagent.shown()") == [1]
    key(browser, "End")
    assert browser.run("document.getElementById('step').value") == str(len(events))
    assert browser.errors == []


def test_the_mouse_pans_and_zooms(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """A drag moves the tree as far as the mouse went, and chooses nothing; the wheel zooms about the pointer."""
    shown(browser, tmp_path, solved)
    at = "(() => { const [a, b] = [treeagent.place(0, 0), treeagent.place(0, 9)]; return [a.x, a.y, b.x, b.y]; })()"
    box = browser.run(
        "(() => { const box = document.querySelector('.pane canvas').getBoundingClientRect();"
        " return [box.x, box.y]; })()"
    )
    before = browser.run(at)
    browser.drag((box[0] + 300, box[1] + 200), (box[0] + 340, box[1] + 130))
    after = browser.run(at)
    assert [round(b - a) for a, b in zip(before, after, strict=True)] == [40, -70, 40, -70]
    assert browser.run(f"{DETAILS}.dataset.thought") == ""
    browser.wheel(box[0] + after[0], box[1] + after[1], -200)
    browser.wait(f"Math.abs({at}[3] - {after[3]}) > 5")
    zoomed = browser.run(at)
    assert zoomed[:2] == pytest.approx(after[:2], abs=1.5)
    assert abs(zoomed[3] - zoomed[1]) > 1.2 * abs(after[3] - after[1])


def test_the_time_line_leads_to_a_moment(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """A click at its left end goes to the first event, one at its right end to the last."""
    shown(browser, tmp_path, solved)
    box = browser.run(
        "(() => { const box = document.querySelector('#times canvas').getBoundingClientRect();"
        " return [box.left, box.right, box.top + 9]; })()"
    )
    last = sum(event.type != "early" for event in read(solved)) - 1
    browser.click(box[0] + 3, box[2])
    assert int(browser.run("document.getElementById('step').value")) < last / 2
    browser.click(box[1] - 1, box[2])
    assert int(browser.run("document.getElementById('step').value")) == last


def test_the_time_line_tells_of_the_engines_rounds(browser: Browser, tmp_path: Path) -> None:
    """All of them together, and the one that is pointed at."""
    told = Story()
    told.rounds("mini", (0.0, 0.2, 2, 90, 0, 0, 2), (0.5, 0.25, 2, 0, 6, 3, 5))
    told.thought(0, "1 + 2 = 3")
    told.end(1)
    shown(browser, tmp_path, told.write(tmp_path / "rounds.jsonl"))
    caption = "document.querySelector('#times .readout').textContent"
    assert browser.run(caption) == "2 rounds of the engine, 2 branches each \u00b7 1.75 tokens a branch"
    point = (
        "(share => {{ const canvas = document.querySelector('#times canvas'), box = canvas.getBoundingClientRect();"
        " canvas.dispatchEvent(new PointerEvent('pointermove', {{clientX: box.left + share * box.width}})); }})({})"
    )
    browser.run(point.format(0.9))
    assert browser.run(caption) == "round 2, 0.25 s: 2 branches got 5 tokens, 3 of 6 drafted were right"
    browser.run(point.format(0.1))
    assert browser.run(caption) == "round 1, 0.2 s: 2 branches got 2 tokens, 90 prompt tokens read"
    green = browser.run(
        "(() => { const canvas = document.querySelector('#times canvas'), ratio = window.devicePixelRatio;"
        " const at = (x, up) => [...canvas.getContext('2d')"
        ".getImageData(x * canvas.width, canvas.height - (up + 15) * ratio, 1, 1).data].slice(0, 3);"
        " return [at(0.8, 4), at(0.8, 25), at(0.45, 4)]; })()"
    )
    assert green[0][1] > green[0][0] + 40  # tokens that came of it
    assert green[1] != green[2]  # what was drafted in vain, and nothing between two rounds
    assert browser.errors == []


def test_an_address_can_name_a_thought(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """``page.html#7`` has it chosen; a number that is no thought, or no number, changes nothing."""
    shown(browser, tmp_path, solved)
    for name, chosen in (("7", "7"), ("99999", "7"), ("<b>", "7")):
        browser.run(f"location.hash = '{name}'; new Promise(done => setTimeout(done, 20))")
        assert browser.run(f"{DETAILS}.dataset.thought") == chosen
    assert browser.errors == []


def test_playing_runs_from_the_beginning_to_the_end(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """The space bar starts it; at the end it stops by itself."""
    shown(browser, tmp_path, solved)
    browser.run("treeagent.go(Number(document.getElementById('step').max) - 3)")
    key(browser, " ")
    assert browser.run("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    browser.wait("document.getElementById('play').getAttribute('aria-label') === 'Play'")
    assert browser.run("document.getElementById('step').value === document.getElementById('step').max")


def test_the_keyboard_walks_the_tree(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """Right goes to a child (the answer's, where there is one), left to the parent; what is chosen is said aloud."""
    shown(browser, tmp_path, solved)
    path = [data.data["thought"] for data in read(solved) if data.type == "end"]
    key(browser, "ArrowRight")  # the input
    for _ in range(3):
        key(browser, "ArrowRight")
    assert browser.run(f"{DETAILS}.dataset.thought") == str(path[0])
    spoken = browser.run("document.getElementById('spoken').textContent")
    assert "24" in spoken
    key(browser, "ArrowLeft")
    assert browser.run(f"{DETAILS}.dataset.thought") != str(path[0])
    key(browser, "a")
    assert browser.run(f"{DETAILS}.dataset.thought") == str(path[0])
    key(browser, "r")
    assert "What it cost" in details(browser)


def test_the_search_box_finds_and_goes_from_hit_to_hit(browser: Browser, tmp_path: Path) -> None:
    """Steps, states and answers in either case; Enter goes on, and round."""
    run = Story()
    for text, state in (("Alpha", "x"), ("beta", "has ALPHA"), ("gamma", "y")):
        run.thought(0, text, state)
    shown(browser, tmp_path, run.write(tmp_path / "run.jsonl"))
    key(browser, "/")
    for letter in "alpha":
        browser.press(letter, text=letter)
    assert browser.run("document.getElementById('found').textContent") == "2 hits"
    chosen = []
    for _ in range(3):
        browser.press("Enter", text="\r")
        chosen.append(browser.run(f"{DETAILS}.dataset.thought"))
    assert chosen == ["1", "2", "1"]
