"""What is unknown is shown as unknown: rows without gold, and completions that gave nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from treeagent.cli.eval_plots import draw
from treeagent.cli.eval_report import accuracy, report
from treeagent.evaluation.outcomes import FORMAT, Outcome, read
from treeagent.evaluation.summary import summary

RIGHT = Outcome(0, "2+2?", "4", True, "finished", duplicates=1, truncated=0, empty=0, refused=0, missing=0)


def outcomes(*verdicts: bool | None) -> list[Outcome]:
    return [replace(RIGHT, number=number, right=right) for number, right in enumerate(verdicts)]


def test_rows_without_gold_are_said_and_not_counted() -> None:
    """Two right ones of four, and two that nothing grades: 100 % of two."""
    total = summary(outcomes(True, None, None, True), 4)
    assert (total.accuracy.part, total.accuracy.whole, total.ungraded) == (2, 2, 2)
    assert "accuracy 100.0%" in accuracy(total)
    assert "2 of 2 graded; 2 rows have no gold answer" in accuracy(total)


def test_no_gold_at_all_is_no_accuracy() -> None:
    """Never 0 % where nothing was graded."""
    total = summary(outcomes(None, None), 2)
    assert total.accuracy.value is None
    assert accuracy(total).startswith("accuracy unknown: no row has a gold answer")


def test_lost_completions_are_shown() -> None:
    """Truncated, empty, refused and missing ones have a line, and none where there are none."""
    lost = replace(RIGHT, number=1, truncated=3, empty=2, refused=1, missing=4, illegal=5)
    text = report("title", summary([RIGHT, lost], 2), None, {})
    assert "2 duplicates merged, 5 illegal" in text
    assert "3 cut off at max_tokens, 2 of them before any text" in text
    assert "1 refused, 4 missing" in text
    assert "completions:" not in report("title", summary([RIGHT], 1), None, {})


def test_files_of_before_open_with_unknown_counts(tmp_path: Path) -> None:
    """A file without the new counts is read; its counts are unknown, not 0."""
    path = tmp_path / "outcomes.jsonl"
    new = ("duplicates", "truncated", "empty", "refused", "missing")
    old = {name: value for name, value in asdict(RIGHT).items() if name not in new}
    lines = [{"type": "eval", "format": FORMAT, "settings": {}}, {"type": "outcome", **old}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    total = summary(read(path)[1].values(), 1)
    assert [getattr(total, name) for name in new] == [None] * 5
    assert "unknown duplicates merged" in report("title", total, None, {})


def test_without_any_gold_no_accuracy_is_drawn(tmp_path: Path) -> None:
    """Nothing is drawn as 0 where nothing is known."""
    path = tmp_path / "plot.png"
    rows = [replace(RIGHT, number=n, right=None, prompt_tokens=None) for n in range(3)]
    assert draw(path, "title", rows, summary(rows, 3)) == []
    assert not path.exists()
