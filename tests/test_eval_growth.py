"""``treeagent eval`` keeps gold answers and replies, counts groups, and goes on with more problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.evaluation.outcomes import Outcome, read

TASK = """
name: grown
description: Say a number.
metadata: {version: 1}
input: {description: a question, examples: ["q1?"]}
depth: 1
answer: {pattern: 'is (?P<answer>\\w+)', grade: number}
prompts: {io: "{{ input }}"}
data: {file: rows.jsonl, input: "{{ q }}", gold: "{{ a }}", group: "{{ kind }}"}
"""
RULES = "".join(f'- {{match: "q{n}.", text: "Well, it is {n}"}}\n' for n in range(8)) + '- {match: "", text: "none"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight questions; the odd ones are answered wrong, the last has no gold answer."""
    rows = [{"q": f"q{n}?", "a": n + n % 2 if n < 7 else None, "kind": f"kind {n % 3}"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


def evaluate(folder: Path, *words: str) -> Any:
    how = ["--task", str(folder / "task.yaml"), "--search", "io", "--backend", "scripted"]
    how += ["--model", str(folder / "rules.yaml"), "--out", str(folder / "out"), "--quiet"]
    return CliRunner().invoke(app, ["eval", *how, *words])


def outcomes(folder: Path) -> dict[int, Outcome]:
    return read(folder / "out" / "outcomes.jsonl")[1]


def test_outcomes_hold_the_gold_answer_the_reply_and_the_group(folder: Path) -> None:
    """A row without a gold answer is counted as ungraded and not as wrong."""
    done = json.loads(evaluate(folder, "--json").output)
    first, last = outcomes(folder)[1], outcomes(folder)[7]
    assert (first.gold, first.reply, first.answer, first.right, first.group) == (
        "2", "Well, it is 1", "1", False, "kind 1",
    )  # fmt: skip
    assert (last.gold, last.right) == (None, None)
    assert (done["ungraded"], done["rows_without_gold"], done["accuracy"]["whole"]) == (1, 1, 7)
    assert {name: (part["part"], part["whole"]) for name, part in done["groups"].items()} == {
        "kind 0": (2, 3), "kind 1": (1, 2), "kind 2": (1, 2),
    }  # fmt: skip
    assert "kind 0   66.7% [20.8% - 93.9%], 2 of 3" in evaluate(folder).output


def test_a_run_may_grow(folder: Path) -> None:
    """More problems are added to those that are done; the file says so, and other settings are refused as before."""
    assert "(2 of 2 problems run)" in evaluate(folder, "--limit", "2").output
    before = (folder / "out" / "outcomes.jsonl").read_bytes()
    grown = evaluate(folder, "--limit", "5")
    assert "(5 of 5 problems run)" in grown.output, grown.output
    content = (folder / "out" / "outcomes.jsonl").read_bytes()
    assert content.startswith(before)
    assert content.count(b'"type": "grown"') == 1
    assert sorted(outcomes(folder)) == [0, 1, 2, 3, 4]
    assert read(folder / "out" / "outcomes.jsonl")[0]["data"]["rows"] == [0, 1, 2, 3, 4]
    assert "(8 of 8 problems run)" in evaluate(folder).output
    refused = evaluate(folder, "--limit", "3")
    assert refused.exit_code == 2
    assert "is another evaluation: its data.rows is" in refused.output
    assert evaluate(folder, "--seed", "5").exit_code == 2


def test_a_run_whose_rows_have_changed_does_not_grow(folder: Path) -> None:
    """The rows of before are compared with those of now, gold answers included."""
    assert evaluate(folder, "--limit", "2").exit_code == 0
    rows = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(rows.replace('"a": 0', '"a": 5'))
    changed = evaluate(folder, "--limit", "5")
    assert changed.exit_code == 2
    assert "is another evaluation" in changed.output


def test_outcomes_of_before_still_open(folder: Path) -> None:
    """Lines without the new fields."""
    evaluate(folder, "--limit", "2")
    path = folder / "out" / "outcomes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        for name in ("gold", "reply", "group", "judge_calls", "judge_prompt_tokens", "judge_completion_tokens"):
            del line[name]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (outcomes(folder)[0].gold, outcomes(folder)[0].judge_tokens) == (None, None)
    assert "(4 of 4 problems run)" in evaluate(folder, "--limit", "4").output
