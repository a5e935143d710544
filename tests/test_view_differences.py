"""The differences of two runs, as the page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from journals import Story
from viewed import load

from treeagent.viewer.diff import diff


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
