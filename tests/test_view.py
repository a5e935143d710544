"""``treeagent view``: what goes into the page, and what is refused."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest
from cli_tools import call
from journals import HOSTILE, Story, hostile
from viewed import data, load
from viewed import journal as journal  # noqa: PLC0414  the fixture

from treeagent import JournalError
from treeagent.text import clean
from treeagent.viewer.page import inert, page
from treeagent.viewer.run_data import STEPS


def test_view_writes_a_page_beside_the_journal(journal: Path) -> None:
    """It is called like the journal, says how many thoughts it shows, and may be written anew."""
    for _ in range(2):
        assert "run.html: 60 thoughts" in call("view", str(journal)).stdout.replace("\n", "")
    assert journal.with_suffix(".html").read_text().startswith("<!doctype html>")


def test_the_page_holds_the_whole_run(journal: Path) -> None:
    """Every thought, dropped piece, judgement, prompt and reply of the journal is in it, and nothing is asked twice."""
    html = page([load(journal)])
    tree, replies = data(html, "tree-0"), data(html, "replies-0")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    of = {kind: [event for event in events if event["type"] == kind] for kind in ("thought", "dropped", "completion")}
    assert tree["thoughts"]["text"][1:] == [event["text"] for event in of["thought"]]
    assert [piece[2] for piece in tree["dropped"]] == [event["text"] for event in of["dropped"]]
    assert len(tree["steps"]["kind"]) == len(events) - 1
    assert [request[4] for request in tree["requests"]] == [event["id"] for event in of["completion"]]
    for event, reply in zip(of["completion"], replies["requests"], strict=True):
        assert "\n".join(replies["lines"][line] for line in reply["prompt"]) == event["prompt"]
        [sample] = reply["samples"]
        text = "".join("\n".join(replies["lines"][line] for line in folded) for folded, _ in sample["pieces"])
        assert text == event["completions"][0]["text"]
    for event in events:
        if event["type"] == "judged":
            asked = [tree["requests"][place][4] for place in tree["asked"][str(event["id"])]]
            assert asked == event["requests"]


def test_nothing_in_the_page_comes_from_elsewhere_and_only_its_own_script_may_run(journal: Path) -> None:
    """No address of another file; the policy allows one script and one style, each by its digest."""
    html = page([load(journal)])
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://|//\w+\.""", html)
    assert html.isascii()
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert html.index("Content-Security-Policy") < html.index("<script")
    assert html.count("<script>") == html.count("<style>") == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_data_can_end_no_element_and_start_no_markup(text: str) -> None:
    """Neither ``<``, ``>``, ``&`` nor a line separator is left, and what is read back is the text itself."""
    safe = inert({text: [text]})
    assert not re.search("[<>&\u2028\u2029]", safe)
    assert safe.isascii()
    assert json.loads(safe) == {text: [text]}


def test_page_and_run_data_number_events_alike() -> None:
    """The script's names of the steps are those of the events, in their order."""
    script = resources.files("treeagent.viewer").joinpath("data.js").read_text()
    [names] = re.findall(r"const \[(THOUGHT.*?)\]", script)
    assert tuple(names.lower().split(", ")) == STEPS


def test_numbers_that_json_lacks_are_unknown() -> None:
    """An infinite log-likelihood must not make the page unreadable."""
    assert json.loads(inert([float("-inf"), {"a": float("nan")}, 1.5])) == [None, {"a": None}, 1.5]


def test_hostile_texts_are_all_there_and_no_markup(tmp_path: Path) -> None:
    """A journal of nothing but attacks gives a page with the same elements as a harmless one."""
    path = hostile().write(tmp_path / "run.jsonl")
    html = page([load(path)])
    tree = data(html, "tree-0")
    assert tree["thoughts"]["text"][1:] == [clean(text) for text in HOSTILE]
    quiet = page([load(Story().write(tmp_path / "quiet.jsonl"))])
    assert re.findall(r"<(?!!)/?\w+", html) == re.findall(r"<(?!!)/?\w+", quiet)


def test_a_journal_name_cannot_break_the_page(tmp_path: Path) -> None:
    """The file's name stands in the title."""
    path = Story().write(tmp_path / "<b onclick=x>&.jsonl")
    assert "<title>&lt;b onclick=x&gt;&amp;.jsonl - treeagent</title>" in page([load(path)])


def test_view_refuses_to_write_over_a_journal_or_a_foreign_file(journal: Path, tmp_path: Path) -> None:
    """Neither a journal nor, unasked, a page that is not ours is lost."""
    before = journal.read_bytes()
    result = call("view", str(journal), "--out", str(journal))
    assert result.exit_code == 2
    assert "is a journal" in result.stderr
    assert journal.read_bytes() == before
    foreign = journal.with_suffix(".html")
    foreign.write_text("mine")
    result = call("view", str(journal))
    assert result.exit_code == 2
    assert "no page of this command" in result.stderr
    assert foreign.read_text() == "mine"
    assert call("view", str(journal), "--out", str(foreign)).exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the journal"),
        ("", "holds no whole line"),
        ("hello\nworld\n", "not a line of a treeagent journal"),
        ('{"type": "run", "format": 1, "input": "x"}\n{"type": "thought", "id": 3}\n', "damaged"),
        ('{"type": "run", "format": 1, "input": "x"}\n{"type": "completion", "t": 1}\n', "damaged"),
        ('{"type": "run", "format": 1, "input": "x"}\n{"type": "end", "thought": null}\n', "damaged"),
    ],
)
def test_what_cannot_be_viewed_is_said_in_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    """A missing file, no journal, a damaged one: exit code 2, and no page."""
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_text(content)
    result = call("view", str(path))
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not path.with_suffix(".html").exists()


def test_a_page_that_cannot_be_written_is_refused(journal: Path, tmp_path: Path) -> None:
    """The folder does not exist."""
    result = call("view", str(journal), "-o", str(tmp_path / "none" / "page.html"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_events_out_of_place_are_refused_by_name(tmp_path: Path) -> None:
    """A judgement of a thought that never came."""
    run = Story()
    run.judged(7, 1.0)
    with pytest.raises(JournalError, match="do not fit together"):
        load(run.write(tmp_path / "run.jsonl"))
