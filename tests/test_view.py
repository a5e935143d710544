"""``treeagent view``: what goes into the page, and what is refused."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from journals import HOSTILE, Story, hostile
from test_cli import ORACLE, call

from treeagent import Agent, Budget, JournalError
from treeagent.runtime.journal import read
from treeagent.runtime.recorded_event import RecordedEvent
from treeagent.text import clean
from treeagent.viewer.diff import diff
from treeagent.viewer.page import inert, page
from treeagent.viewer.run_data import STEPS, pieces, run_data


def load(path: Path) -> Any:
    """The run of a journal."""
    return run_data(read(path), path.name)


def data(html: str, id: str) -> Any:
    """A block of data as the page reads it."""
    [block] = re.findall(rf'<script type="application/json" id="{id}">(.*?)</script>', html, re.DOTALL)
    return json.loads(block)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path))
    return path


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


def test_a_torn_journal_is_shown_as_far_as_it_goes(journal: Path) -> None:
    """Any beginning of a journal gives a page that says that there is no end."""
    whole = journal.read_bytes()
    for share in (0.1, 0.4, 0.8):
        journal.write_bytes(whole[: int(len(whole) * share)])
        tree = load(journal).tree
        assert tree["end"] is None
        assert any("no end" in note for note in tree["notes"])
        assert len(tree["thoughts"]["id"]) > 1


def test_a_resumed_journal_is_told_once(journal: Path, tmp_path: Path) -> None:
    """A run that was killed and resumed shows the tree of an undisturbed one, and says that it was resumed."""
    whole = load(journal)
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(journal.read_bytes()[:9000])
    call("resume", str(torn), "--allow-code")
    again = load(torn)
    assert again.tree["thoughts"]["text"] == whole.tree["thoughts"]["text"]
    assert again.tree["asked"].keys() == whole.tree["asked"].keys()
    assert any("resumed once" in note for note in again.tree["notes"])
    earlier = [request for request in again.tree["requests"] if request[1] is None]
    assert 0 < len(earlier) < len(again.tree["requests"])


def test_a_resumed_journal_that_was_cut_off_again_shows_what_goes_furthest(tmp_path: Path) -> None:
    """The second telling has barely begun: the first one is shown."""
    run = Story()
    for number in range(5):
        run.thought(0, f"step {number}")
    run.add("resumed", budget={})
    run.paths, run.children = {0: []}, {0: 0}
    run.thought(0, "step 0")
    tree = load(run.write(tmp_path / "run.jsonl")).tree
    assert len(tree["thoughts"]["id"]) == 6
    assert any("goes furthest" in note for note in tree["notes"])


def test_an_older_journal_leaves_unknown_what_it_does_not_tell(journal: Path) -> None:
    """Without the fields that came later a page can be made, and nothing is made up."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        later = {"completion": ("thought", "seconds"), "judged": ("requests",)}
        for name in later.get(line["type"], ()):
            line.pop(name)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tree = load(journal).tree
    assert all(request[2] is request[3] is None for request in tree["requests"])
    assert not any(tree["asked"].values())


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ({"text": "a b c", "drafted": [1], "ends": [1, 3, 5]}, [("a", 0), (" b", 1), (" c", 0)]),
        ({"text": "a b c", "drafted": [0, 1], "ends": [1, 3, 5]}, [("a b", 1), (" c", 0)]),
        ({"text": "a b \U0001f600!", "drafted": [2], "ends": [1, 3, 5]}, [("a b", 0), (" \U0001f600", 1), ("!", 0)]),
        ({"text": "abc", "drafted": []}, [("abc", 0)]),
        ({"text": "abc", "drafted": [1]}, [("abc", -1)]),
        ({"text": "abc"}, [("abc", -1)]),
    ],
)
def test_accepted_draft_tokens_are_marked_in_the_text(sample: dict[str, Any], expected: list[tuple[str, int]]) -> None:
    """Runs of tokens by whether they were drafted; -1 where that or their place in the text is unknown."""
    assert pieces(sample) == expected


# Two runs


def two(tmp_path: Path, change: Any) -> dict[str, Any]:
    """The differences of a run and its changed twin."""
    runs = []
    for name in ("left", "right"):
        run = Story()
        run.reply("p0", "propose", 0, "a\nb")
        first = run.thought(0, "a", request="p0")
        second = run.thought(0, "b", request="p0")
        run.reply(f"v{first}", "value", first, "sure")
        run.judged(first, 20.0, "sure", requests=(f"v{first}",))
        if name == "right":
            change(run, second)
        run.judged(second, 1.0, "likely")
        run.thought(first, "c")
        run.end(first, "x")
        runs.append(load(run.write(tmp_path / f"{name}.jsonl")))
    return diff(*runs)


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    """Every thought has its twin."""
    found = two(tmp_path, lambda run, second: None)
    assert found["first"] is None
    assert found["left"] == found["right"] == []
    assert found["twins"] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_the_first_difference_is_the_first_request_that_was_answered_otherwise(tmp_path: Path) -> None:
    """It is shown at its request, with the replies of both runs."""

    def change(run: Story, second: int) -> None:
        [line] = [line for line in run.lines if line.get("id") == "p0"]
        line["completions"][0]["text"] = "a\nB"
        [line] = [line for line in run.lines if line.get("text") == "b"]
        line["text"] = "B"

    found = two(tmp_path, change)
    assert (found["first"]["left"], found["first"]["right"]) == (0, 0)
    assert "propose at '1 2 3 4', sample 0: text differ, at position 2" in found["first"]["what"]
    assert found["first"]["said"] == {"left": "b", "right": "B"}
    assert (found["left"], found["right"]) == ([2], [2])


def test_a_judgement_that_differs_is_a_difference(tmp_path: Path) -> None:
    """The same step with another value is marked on both sides; its neighbours are not."""

    def change(run: Story, second: int) -> None:
        [line] = [line for line in run.lines if line["type"] == "judged"]
        line["value"] = None

    found = two(tmp_path, change)
    assert (found["left"], found["right"]) == ([1], [1])
    assert "different values: 20 and unknown" in found["first"]["what"]


def test_a_thought_of_one_run_alone_is_a_difference(tmp_path: Path) -> None:
    """It has no twin; the other side has nothing to show."""
    found = two(tmp_path, lambda run, second: run.thought(second, "only here"))
    assert found["left"] == []
    assert len(found["right"]) == 1
    assert found["first"]["left"] is None
    assert "'only here' only in right.jsonl" in found["first"]["what"]


# The command


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
        ("", "has no complete line"),
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


def test_the_engines_rounds_are_in_the_journal_and_in_the_page(tmp_path: Path) -> None:
    """Their sums are the engine's own figures; each round precedes the replies that it completed."""
    path = tmp_path / "run.jsonl"
    options = {"backend.device": "cpu", "backend.draft": "mini-draft", "backend.draft_tokens": 3}
    agent = Agent("game24", "bfs", backend="seed", options=options, budget=Budget(calls=12))
    result = agent.solve("4 5 6 10", journal=path)
    rounds = load(path).tree["rounds"]
    sums = {name: sum(rounds[name]) for name in ("rows", "read", "drafted", "accepted", "tokens")}
    engine = result.engine
    assert {name: sums[name] for name in ("drafted", "accepted", "tokens")} == {
        name: engine[name] for name in ("drafted", "accepted", "tokens")
    }
    assert len(rounds["at"]) == engine["rounds"] > 5
    assert sums["read"] == engine["prefix_tokens_computed"]
    assert sums["tokens"] / sums["rows"] == pytest.approx(engine["block_efficiency"], abs=1e-3)
    assert rounds["at"][0] >= 0
    assert sum(rounds["seconds"]) <= result.seconds
    assert set(rounds["model"]) == {"mini"}
    told_of = answered = 0
    for event in read(path):
        if event.type == "rounds":
            told_of += sum(event.data["tokens"])
        elif event.type == "completion":
            answered += event.data["usage"]["completion_tokens"]
            assert told_of >= answered > 0


def test_rounds_of_two_engines_stand_in_the_order_of_time() -> None:
    """Told apart by model; a damaged column is said to be one."""
    story_of = Story()
    story_of.rounds("large", (0.1, 0.2, 3, 40, 0, 0, 3), (0.5, 0.1, 3, 0, 6, 2, 5))
    story_of.rounds("small", (0.3, 0.1, 1, 9, 0, 0, 1))
    events = [RecordedEvent(line.pop("type"), line) for line in story_of.lines]
    rounds = run_data(events, "run.jsonl").tree["rounds"]
    assert rounds["model"] == ["large", "small", "large"]
    assert rounds["tokens"] == [3, 1, 5]
    for damage in ([], [3, None], [3, "4"], [3, float("nan")]):
        events[1].data["rows"] = damage
        with pytest.raises(JournalError, match="damaged"):
            run_data(events, "run.jsonl")


def test_visits_and_early_requests_are_in_the_page(tmp_path: Path) -> None:
    """In the order of the events, and at the thoughts and requests that they belong to; guessed steps have none."""
    story = Story()
    story.reply("a", "propose", 0, "first")
    first = story.thought(0, "first", request="a")
    story.add("visited", ids=[first, 0], visits=[1, 1], means=[None, 2.5])
    sent = {"role": "propose", "seconds": 0.2, "prompt_tokens": None, "completion_tokens": 9}
    story.add("early", id="a", kind="piece", hit=True, place="root", began=0.1, asked=0.2, **sent)
    story.add("early", id="b", kind="later", hit=False, place="0.7", began=0.3, **sent)
    tree = load(story.write(tmp_path / "run.jsonl")).tree
    assert tree["visited"] == [[[first, 0], [1, 1], [None, 2.5]]]
    assert tree["steps"]["kind"][-1] == STEPS.index("visited")
    assert tree["early"] == [["piece", True, 0.1, 0.2, 0.2, 9, 0, 0], ["later", False, 0.3, 0.2, None, 9, None, None]]
    story.add("visited", ids=[5], visits=[1], means=[1.0])
    with pytest.raises(JournalError, match="there is no thought 5"):
        load(story.write(tmp_path / "run.jsonl"))
