"""The page of ``treeagent view`` in a real browser: what it shows, what it obeys, how quick it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find
from contrast import poor
from journals import HOSTILE, Story, hostile, large
from test_cli import ORACLE, call

from treeagent.runtime.journal import read
from treeagent.viewer.page import page
from treeagent.viewer.run_data import run_data

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")

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
