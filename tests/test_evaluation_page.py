"""``treeagent view FOLDER``: the page over all problems of an evaluation, what it says, obeys and weighs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find
from contrast import poor
from journals import HOSTILE, Story
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.evaluation.outcomes import Outcome
from treeagent.evaluation.statistics import share
from treeagent.viewer.bounded_text import bounded, size_of
from treeagent.viewer.evaluation_page import EvaluationFolder, evaluation_page
from treeagent.viewer.outlines import outline

with_browser = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")
SETTINGS = {"task": "t", "search": {"name": "bfs"}, "backend": {"name": "b", "model": None, "options": {}}}


def problem(number: int, right: bool | None = True, **more: Any) -> Outcome:
    known = {"answer": f"a{number}", "gold": f"g{number}", "ended": "finished", "seconds": number / 4, "calls": number}
    known |= {"prompt_tokens": 10 * number, "completion_tokens": number, "group": "even" if number % 2 == 0 else "odd"}
    return replace(Outcome(number, f"input {number}", right=right), **{**known, **more})


def written(folder: Path, outcomes: list[Outcome], wanted: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(range(len(outcomes) if wanted is None else wanted))
    lines = [{"type": "eval", "format": 1, "settings": {**SETTINGS, "data": {"rows": rows, "digest": ""}}}]
    lines += [{"type": "outcome", **asdict(outcome)} for outcome in outcomes]
    (folder / "outcomes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def mixed(folder: Path) -> Path:
    """Twelve problems of every verdict; the first has a tree."""
    outcomes = [problem(number, right=number % 3 == 0) for number in range(8)]
    outcomes += [problem(8, None), problem(9, False, answer=None), problem(10, None, answer=None, error="no server")]
    outcomes.append(problem(11, prompt_tokens=None, reply="all in all 11"))
    written(folder, outcomes, wanted=20)
    story = Story()
    good = story.thought(0, "good step")
    story.judged(good, 3.0)
    story.judged(story.thought(0, "bad step"), 1.0)
    story.add("answer", id=good, answer="24")
    story.end(good, "24")
    (folder / "journals").mkdir()
    story.write(folder / "journals" / "000000.jsonl")
    return folder


def view(*words: object) -> Any:
    return CliRunner().invoke(app, ["view", *map(str, words)])


def data(html: str, id: str) -> Any:
    [block] = re.findall(rf'<script type="application/json" id="{id}">(.*?)</script>', html, re.DOTALL)
    return json.loads(block)


def test_a_folder_becomes_one_page_and_pages_of_problems_are_linked(tmp_path: Path) -> None:
    """Beside the outcomes, with nothing from elsewhere; ``--pages`` writes those of the journals, which it links."""
    folder = mixed(tmp_path / "run #1")
    assert view(folder).stdout.replace("\n", "").endswith("outcomes.html: 12 problems")
    html = (folder / "outcomes.html").read_text()
    assert not re.search(r"(?:src|href|action)=|@import|url\(", html)
    assert "page" not in data(html, "evaluation")["problems"][0]
    (folder / "journals" / "000001.jsonl").write_text("no journal\n")
    shown = view(folder, "--pages", "--out", tmp_path / "all.html")
    assert shown.exit_code == 0
    assert "1 pages of problems" in shown.stdout.replace("\n", "")
    html = (tmp_path / "all.html").read_text()
    problems = data(html, "evaluation")["problems"]
    assert [row.get("page") for row in problems[:2]] == ["run%20%231/journals/000000.html", None]
    assert [row["verdict"] for row in problems[7:]] == ["wrong", "ungraded", "unanswered", "failed", "right"]
    trees = data(html, "trees")
    assert trees[0]["rows"][1] == [0, "good step", 3, "24", 1]
    assert "000001.jsonl" in trees[1]["error"]
    assert trees[2] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["EMPTY"], "no folder of an evaluation"),
        (["FOLDER", "FOLDER/journals/000000.jsonl"], "two of a kind"),
        (["FOLDER/journals/000000.jsonl", "FOLDER"], "two of a kind"),
        (["FOLDER/journals/000000.jsonl", "--pages"], "only with the folder"),
        (["FOLDER", "--out", "FOLDER/outcomes.jsonl"], "has the outcomes"),
    ],
)
def test_what_is_no_evaluation_is_refused_in_a_line(tmp_path: Path, words: list[str], message: str) -> None:
    """Exit code 2, and the outcomes stay as they were."""
    (tmp_path / "EMPTY").mkdir()
    before = (mixed(tmp_path / "FOLDER") / "outcomes.jsonl").read_text()
    shown = view(*(str(tmp_path / word) if word[0] in "EF" else word for word in words))
    assert shown.exit_code == 2
    assert message in " ".join(shown.output.split())
    assert (tmp_path / "FOLDER" / "outcomes.jsonl").read_text() == before


def test_the_page_is_bounded_however_long_texts_and_trees_are(tmp_path: Path) -> None:
    """A thousand problems with texts that take six bytes a letter and a tree of 600 thoughts: under 9 MB."""
    outcomes = [problem(number, reply="<" * 4_000, input="\u4e2d" * 900, answer="&" * 900) for number in range(1_000)]
    folder = written(tmp_path / "run", outcomes)
    story, parent = Story("<" * 3_000), 0
    for _ in range(60):
        ids = [story.thought(parent, ">" * 300) for _ in range(10)]
        parent = ids[0]
    story.add("answer", id=parent, answer="<" * 900)
    story.end(parent, "x")
    (folder / "journals").mkdir()
    journal = story.write(folder / "journals" / "000000.jsonl")
    for room in (400, 4_000, 60_000):
        tree = outline(journal, room)
        assert len(json.dumps(tree["rows"]).replace("<", "\\u003c").replace(">", "\\u003e")) <= max(room, 61 * 80)
        assert sum(row[4] for row in tree["rows"]) == 61  # the path of the answer is whole
        assert len(tree["rows"]) + sum(tree["hidden"]) <= tree["count"] + 1
    html = evaluation_page(EvaluationFolder.read(folder), tmp_path / "page.html")
    assert len(html) < 9_000_000


@pytest.mark.parametrize("text", [*HOSTILE, "\u4e2d" * 40, "\U0001f600" * 30, ""])
def test_a_cut_text_fits_and_is_the_beginning(text: str) -> None:
    """Counted in the bytes of the page, escapes included."""
    for most in (8, 20, 50, 10_000):
        cut = bounded(text, most)
        assert size_of(cut) <= most
        assert text.startswith(cut.removesuffix("\u2026"))
        assert cut == text or cut.endswith("\u2026")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    assert program is not None
    chromium = Browser(program, tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def opened(browser: Browser, tmp_path: Path, folder: Path, other: Path | None = None) -> None:
    folders = [EvaluationFolder.read(path) for path in (folder, other) if path is not None]
    target = tmp_path / "page.html"
    target.write_text(evaluation_page(folders[0], target, *folders[1:]))
    browser.open(target)


def choose(browser: Browser, id: str, value: str) -> None:
    browser.run(f"(() => {{ const at = document.getElementById('{id}'); at.value = '{value}';"
                " at.dispatchEvent(new Event(at.tagName === 'SELECT' ? 'change' : 'input')); })()")  # fmt: skip


@with_browser
def test_the_table_filters_sorts_and_opens(browser: Browser, tmp_path: Path) -> None:
    """The summary is that of what is shown; unknown comes last either way; a row opens on its texts and its tree."""
    opened(browser, tmp_path, mixed(tmp_path / "run"))
    summary = "document.getElementById('summary').innerText"
    part = share(4, 10)
    assert f"4 of 10, 95 %: {100 * part.low:.1f} % to {100 * part.high:.1f} %" in browser.run(summary)
    assert "1 problem failed: between 36.4 % and 45.5 %" in browser.run(summary)
    assert "12 of 20 problems run" in browser.run(summary)
    assert browser.run("Object.values(treeagent.share(4, 10))") == [4, 10, 0.4, part.low, part.high]
    head = "[...document.querySelectorAll('#heads button')].find(each => each.textContent.startsWith('tokens')).click()"
    browser.run(head)
    assert browser.run("treeagent.numbers()") == [*range(11), 11]
    browser.run(head)
    assert browser.run("treeagent.numbers()") == [*range(10, -1, -1), 11]
    choose(browser, "group", "0")
    assert browser.run("treeagent.numbers()") == [10, 8, 6, 4, 2, 0]
    assert "2 of 4," in browser.run(summary)
    choose(browser, "verdict", "right")
    assert browser.run("treeagent.numbers()") == [6, 0]
    assert browser.run("document.getElementById('shown').textContent") == "2 of 12 problems"
    browser.run("document.getElementById('problem-0').focus()")
    browser.press("Enter", text="\r")
    about = browser.run("document.querySelector('tr.about').innerText")
    for text in ("input 0", "g0", "a0", "2 thoughts", "treeagent view journals/000000.jsonl"):
        assert text in about
    path = browser.run("[...document.querySelectorAll('.path > .step')].map(each => each.textContent)")
    assert path == ["1 2 3 4", "good step"]
    choose(browser, "verdict", "all")
    choose(browser, "group", "all")
    choose(browser, "query", "ALL IN ALL")
    assert browser.run("treeagent.numbers()") == [11]
    assert browser.errors == []


@with_browser
def test_another_evaluation_is_compared_problem_by_problem(browser: Browser, tmp_path: Path) -> None:
    """The paired test, and the problems that only one of both solves."""
    other = written(tmp_path / "other", [problem(number, right=number % 2 == 0) for number in range(12)])
    opened(browser, tmp_path, mixed(tmp_path / "run"), other)
    text = browser.run("document.getElementById('summary').innerText")
    assert "Against other" in text
    assert "only here 2, only there 2, both 2, neither 4" in text
    choose(browser, "other", "gained")
    assert browser.run("treeagent.numbers()") == [3, 11]
    assert browser.errors == []


@with_browser
def test_hostile_texts_are_shown_and_not_obeyed(browser: Browser, tmp_path: Path) -> None:
    """Of inputs, answers, gold answers, replies, errors, groups and steps none runs or becomes an element."""
    outcomes = [
        problem(number, input=text, answer=text, gold=text, reply=text, group=text, error=text if number % 2 else None)
        for number, text in enumerate(json.loads(json.dumps(HOSTILE)))
        if text.isprintable()
    ]
    folder = written(tmp_path / "run", outcomes)
    (folder / "journals").mkdir()
    story = Story(HOSTILE[0])
    for text in HOSTILE:
        story.add("answer", id=story.thought(0, text, text), answer=text)
    for outcome in outcomes:
        story.write(folder / "journals" / f"{outcome.number:06}.jsonl")
    opened(browser, tmp_path, folder)
    for outcome in outcomes:
        assert browser.run(f"treeagent.open({outcome.number})")
    inputs = browser.run("[...document.querySelectorAll('tr.about pre')].map(each => each.textContent)")
    assert {outcome.input for outcome in outcomes} <= set(inputs)
    assert browser.run("[window.owned === undefined, document.title]") == [True, "run - treeagent"]
    assert browser.run("document.querySelectorAll('main img, main svg, main script, main style, main a').length") == 0
    assert not browser.run("document.querySelector('main').textContent.includes('\\u202e')")
    assert browser.errors == []


@with_browser
def test_the_page_works_on_a_phone_and_has_enough_contrast(browser: Browser, tmp_path: Path) -> None:
    """Nothing is wider than the window; texts and lines reach level AA in light and dark, an open row included."""
    opened(browser, tmp_path, mixed(tmp_path / "run"))
    browser.run("treeagent.open(0)")
    assert poor(browser) == []
    try:
        browser.phone(390, 844)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        browser.run("document.getElementById('problem-3').scrollIntoView()")
        box = browser.run("(({x, y}) => [x, y])(document.getElementById('problem-3').getBoundingClientRect())")
        browser.tap(box[0] + 20, box[1] + 20)
        assert browser.run("document.getElementById('problem-3').classList.contains('open')")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        assert poor(browser) == []
    finally:
        browser.phone(0, 0)
        browser.resize(1400, 900)
    assert browser.errors == []
