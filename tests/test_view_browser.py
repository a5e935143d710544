"""The page of ``treeagent view`` in a real browser: what it shows, how it looks, how quick it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find
from contrast import poor
from journals import HOSTILE, Story, hostile, large
from shown_page import DETAILS, QUICK, click, details, key, shown
from shown_page import browser as browser  # noqa: PLC0414  the fixture
from shown_page import solved as solved  # noqa: PLC0414  the fixture

from treeagent.runtime.journal import read

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")


def test_the_page_shows_every_thought_and_dropped_piece(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """Loaded from a file without a single error; the numbers are the run's own."""
    shown(browser, tmp_path, solved)
    dropped = sum(event.type == "dropped" for event in read(solved))
    assert dropped
    heading = browser.run("document.querySelector('.pane').innerText")
    assert f"60 thoughts, {dropped} dropped pieces" in heading
    assert "(solved)" in heading
    assert browser.run("treeagent.shown()") == [1 + 60 + dropped]
    browser.run("document.getElementById('dropped').click()")
    assert browser.run("treeagent.shown()") == [61]
    assert int(browser.run("document.querySelector('.pane canvas').dataset.drawn")) > 5
    assert browser.errors == []


def test_a_click_shows_prompt_reply_and_judgement(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """All that is known about the thought under the mouse, word for word."""
    shown(browser, tmp_path, solved)
    events = [event.data for event in read(solved)]
    chosen = next(data for data in events if "depth" in data and data["depth"] == 2)
    judged = next(data for data in events if "labels" in data and data["id"] == chosen["id"])
    asked = {data["id"]: data for data in events if "prompt" in data}
    browser.run("document.getElementById('fit').click()")
    click(browser, 0, chosen["id"])
    text = details(browser)
    assert browser.run(f"{DETAILS}.dataset.thought") == str(chosen["id"])
    for part in (
        f"Thought {chosen['id']}",
        chosen["text"],
        chosen["state"],
        judged["labels"][0],
        f"{judged['value']:g}",
    ):
        assert part in text
    pres = browser.run(f"[...{DETAILS}.querySelectorAll('pre')].map(pre => pre.textContent)")
    for id in (chosen["request"], judged["requests"][0]):
        assert asked[id]["prompt"] in pres
        assert asked[id]["completions"][0]["text"] in pres
    assert browser.run(f"{DETAILS}.querySelector('.this').textContent") == chosen["text"]
    assert browser.errors == []


def test_accepted_draft_tokens_are_marked(browser: Browser, tmp_path: Path) -> None:
    """Where the journal tells which; where it does not, the page says so."""
    run = Story()
    run.reply("a", "propose", 0, "one two\nthree", drafted=[1], ends=[3, 7, 13])
    run.reply("b", "propose", 0, "four")
    run.thought(0, "three", request="a")
    run.thought(0, "four", request="b")
    shown(browser, tmp_path, run.write(tmp_path / "run.jsonl"))
    browser.run("treeagent.choose(0, 1)")
    assert browser.run(f"[...{DETAILS}.querySelectorAll('.reply .drafted')].map(each => each.textContent)") == [" two"]
    assert "3 tokens, 1 of them accepted draft tokens" in details(browser)
    browser.run("treeagent.choose(0, 2)")
    assert "whether any was drafted is unknown" in details(browser)


def test_unknown_is_shown_as_unknown(browser: Browser, tmp_path: Path) -> None:
    """A judgement that could not be read, a thought without one, a price and an unknown end."""
    run = Story()
    run.judged(run.thought(0, "unread"), None)
    run.thought(0, "unjudged")
    shown(browser, tmp_path, run.write(tmp_path / "run.jsonl"))
    assert "The journal has no end" in browser.run("document.querySelector('.pane').innerText")
    assert "no end yet" in details(browser)
    browser.run("treeagent.choose(0, 1)")
    assert "value unknown" in details(browser)
    assert "nothing could be read" in details(browser)
    browser.run("treeagent.choose(0, 2)")
    assert "not judged" in details(browser)
    assert browser.errors == []


def test_hostile_texts_are_shown_and_not_obeyed(browser: Browser, tmp_path: Path) -> None:
    """No text of the journal runs, makes an element, steers the reading direction or changes the title."""
    path = hostile().write(tmp_path / "run.jsonl")
    shown(browser, tmp_path, path)
    for id in range(len(HOSTILE) + 1):
        browser.run(f"treeagent.choose(0, {id})")
        browser.run(f"{DETAILS}.querySelectorAll('details').forEach(each => {{ each.open = true; }})")
    browser.run("for (let i = 0; i <= 60; i++) treeagent.go(i)")
    browser.run("document.getElementById('query').value = '<'; document.getElementById('query').oninput()")
    for id, text in enumerate(HOSTILE, 1):
        browser.run(f"treeagent.choose(0, {id})")
        if text.isprintable():
            assert browser.run(f"{DETAILS}.querySelector('pre').textContent") == text
    assert browser.run("[window.owned === undefined, document.title]") == [True, "run.jsonl - treeagent"]
    assert browser.run("document.querySelectorAll('main img, main svg, main script, main style, main a').length") == 0
    for char in ("\u202e", "\u2066", "\u2028", "\x1b", "\x00", "\x07", "\ufeff"):
        assert not browser.run(f"document.querySelector('main').textContent.includes('\\u{ord(char):04x}')")
    assert "\u27e8202e\u27e9" in browser.run("treeagent.choose(0, 5), document.querySelector('main').textContent")
    assert browser.errors == []


def test_the_policy_stops_a_script_that_were_to_get_in(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """The second line of defence: an inline handler and an inline script that are in the document do not run."""
    shown(browser, tmp_path, solved)
    browser.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">');"
        "const made = document.createElement('script'); made.textContent = 'window.owned = 2';"
        "document.body.append(made);"
    )
    browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert browser.run("window.owned === undefined")
    assert any("Content Security Policy" in error for error in browser.errors)


def test_the_page_is_readable_in_dark_and_on_a_narrow_window(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """Paper and ink change places; nothing is wider than the window."""
    look = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    paper = "[...document.querySelector('.pane canvas').getContext('2d').getImageData(2, 2, 1, 1).data]"
    shown(browser, tmp_path, solved)
    light, light_canvas = browser.run(look), browser.run(paper)
    try:
        browser.dark(True)
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        dark, dark_canvas = browser.run(look), browser.run(paper)
        browser.resize(420, 800)
        assert browser.run("document.documentElement.scrollWidth") <= 420
        assert browser.run("document.querySelector('.pane canvas').clientHeight") > 80
    finally:
        browser.dark(False)
        browser.resize(1400, 900)
    assert min(light_canvas[:3]) > 200
    assert max(dark_canvas[:3]) < 60
    assert light != dark


def wide(story: Story, levels: int = 5) -> None:
    """Ten children at each thought of one path, the last of which go on: the path goes far down the page."""
    parent = 0
    for level in range(levels):
        ids = [
            story.thought(parent, f"step {level} {child} of a longer text", f"{level} {child}") for child in range(10)
        ]
        for id in ids:
            story.judged(id, float(id % 20), "likely")
        for id in ids[:-1]:
            for child in range(4):
                story.thought(id, f"below {id} {child}", f"{id} {child}")
        parent = ids[-1]
    story.add("answer", id=parent, answer="24")
    story.end(parent, "24")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_opens_on_the_whole_path_of_the_answer(
    browser: Browser, tmp_path: Path, width: int, height: int
) -> None:
    """Every thought of it is on the canvas, and readable: its box is as high as a line, wherever it stands."""
    story = Story()
    wide(story)
    try:
        browser.resize(width, height)
        shown(browser, tmp_path, story.write(tmp_path / "run.jsonl"))
        boxes = browser.run("treeagent.path(0)")
        size = browser.run("(({clientWidth: w, clientHeight: h}) => [w, h])(document.querySelector('.pane canvas'))")
    finally:
        browser.resize(1400, 900)
    assert len(boxes) == 6
    for box in boxes:
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size[1]
        assert box["height"] >= 18
    assert browser.errors == []


def test_a_phone_shows_all_and_a_finger_moves_the_tree(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """Nothing is wider than the window, the page scrolls to the details, a tap chooses, two fingers zoom."""
    try:
        browser.phone(390, 844)
        shown(browser, tmp_path, solved)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        assert browser.run("document.documentElement.scrollHeight") > 844
        small = browser.run(
            "[...document.querySelectorAll('button, summary, input')].filter(each => each.checkVisibility())"
            ".map(each => [each.id, each.getBoundingClientRect().height]).filter(([, height]) => height < 22)"
        )
        assert small == []
        last = browser.run("treeagent.path(0).at(-1)")
        box = browser.run("(({x, y}) => [x, y])(document.querySelector('.pane canvas').getBoundingClientRect())")
        browser.tap(box[0] + last["x"] + last["width"] / 2, box[1] + last["y"] + last["height"] / 2)
        assert "24" in browser.run(f"{DETAILS}.querySelector('.step').textContent")
        before = browser.run("treeagent.path(0).map(each => each.y)")
        browser.pinch((box[0] + 150, box[1] + 150), 40, 120)
        after = browser.run("treeagent.path(0).map(each => each.y)")
    finally:
        browser.phone(0, 0)
        browser.resize(1400, 900)
    assert max(after) - min(after) > 1.5 * (max(before) - min(before))
    assert browser.errors == []


def test_visits_and_guesses_are_shown(browser: Browser, tmp_path: Path) -> None:
    """Visits as they were at each step; what was sent early by hit and miss, with what it saved and cost."""
    story = Story()
    first = story.thought(0, "first", request="a")
    story.add("visited", ids=[first, 0], visits=[1, 1], means=[None, 2.0])
    story.add("visited", ids=[first, 0], visits=[2, 2], means=[4.5, 3.0])
    story.reply("a", "propose", 0, "first")
    sent = {"kind": "piece", "role": "propose", "place": "root", "began": 0.0, "seconds": 0.004}
    story.add("early", id="a", hit=True, asked=0.001, prompt_tokens=None, completion_tokens=9, **sent)
    story.add("early", id="b", hit=False, asked=None, prompt_tokens=None, completion_tokens=7, **sent)
    story.end(first, "1")
    story.lines[-1]["speculated"] = {"seconds_saved": 0.5}
    shown(browser, tmp_path, story.write(tmp_path / "run.jsonl"))
    caption = browser.run("document.querySelector('#times figcaption').textContent")
    assert "sent early and asked for later (1)" in caption
    assert "in vain (1)" in caption
    for part in ("1 of 2 (50 %)", "1 request, 7 tokens or more", "0.5 s"):
        assert part in details(browser)
    assert browser.run("[1, 2, 3].map(step => treeagent.word(0, 1, step))") == [
        "not judged", "1 visit, mean unknown \u00b7 not judged", "2 visits, mean 4.5 \u00b7 not judged",
    ]  # fmt: skip
    browser.run("treeagent.choose(0, 1)")
    assert "Visits of the search" in details(browser)
    assert "sent 0.001 s before the search asked for it" in details(browser)
    browser.run("treeagent.hover(0, 0.5)")
    assert "piece at 1 2 3 4: sent early for 0.004 s" in browser.run("document.querySelector('.readout').textContent")
    assert browser.errors == []


def test_every_text_and_line_has_enough_contrast(browser: Browser, solved: Path, tmp_path: Path) -> None:
    """Level AA in light and dark, of the panel of the run, of a thought, and of the keys."""
    shown(browser, tmp_path, solved)
    assert poor(browser) == []
    browser.run("treeagent.choose(0, 3); document.getElementById('help').open = true")
    assert poor(browser) == []


@pytest.mark.exhaustive
def test_ten_thousand_thoughts_open_quickly_and_stay_smooth(
    browser: Browser, tmp_path: Path, record_property: Any
) -> None:
    """On the screen within three seconds; a frame draws no more than can be seen, at any distance."""
    path = large(10_000).write(tmp_path / "run.jsonl")
    seconds = min(shown(browser, tmp_path, path) for _ in range(2))  # the machine may be busy with something else
    record_property("seconds", seconds)
    assert browser.run("treeagent.shown()") == [11_001]
    drawn = []
    for name in "0++++++++++++++++++++":
        key(browser, name)
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        drawn.append(int(browser.run("document.querySelector('.pane canvas').dataset.drawn")))
    assert max(drawn) < 5 * 900  # five columns of so many pixels
    assert min(drawn) < 100
    assert browser.errors == []
    assert seconds < QUICK
    print(f"10 000 thoughts: {seconds:.2f} s")
