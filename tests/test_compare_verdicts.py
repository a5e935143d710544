"""What a comparison says was solved, dropped and lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import ORACLE, call

QUIZ = """
name: quiz
description: Questions.
metadata: {version: 1}
input: {description: a question, examples: ["1+1"]}
data: {file: sums.jsonl, input: "{{ question }}", gold: "{{ answer }}"}
depth: 1
prompts: {propose: "P {{ input }}", value: "V {{ state }}", io: "I {{ input }}"}
answer: {pattern: '[0-9]+'}
"""


def quiz(folder: Path, golds: list[str | None], completions: str) -> list[str]:
    """The words of a comparison of two scripted backends on questions with these gold answers."""
    (folder / "quiz.yaml").write_text(QUIZ)
    rows = [json.dumps({"question": f"{number}+1", "answer": gold}) for number, gold in enumerate(golds)]
    (folder / "sums.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "model.yaml").write_text(completions)
    model = folder / "model.yaml"
    return ["compare", "-t", str(folder / "quiz.yaml"), "-b", f"scripted:{model},scripted:{model}", "--limit", "9"]


@pytest.mark.parametrize(
    ("golds", "graded", "solved", "cell"), [(["4", None, "5"], 2, 1, "1/2"), ([None, None], 0, None, "unknown/2")]
)
def test_rows_without_gold_and_without_a_check_have_no_verdict(
    golds: list[str | None], graded: int, solved: int | None, cell: str, tmp_path: Path
) -> None:
    """They are neither solved nor unsolved, and the report says how many there are."""
    words = [*quiz(tmp_path, golds, "- {match: '', text: '4'}\n"), "-s", "io"]
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    assert cell in result.stdout
    assert f"{len(golds) - graded} of {len(golds)} input(s) have no gold answer" in result.stdout
    for row in json.loads(call(*words, "--json").stdout)["backends"]:
        assert (row["inputs"], row["graded"], row["solved"]) == (len(golds), graded, solved)


def test_what_was_dropped_or_lost_is_counted_as_by_solve() -> None:
    """Summed over the inputs, once for all where the backends agree."""
    refused = ["--set", "backend.refuse_at=3"]
    one = json.loads(call("solve", *ORACLE, *refused, "--json").stdout)["counts"]
    words = ["compare", "-t", "game24", "-b", "helpers:Oracle,helpers:Oracle", "-i", "4 9 10 13", *refused]
    result = call(*words)
    assert result.stdout.count(f"{one['duplicates']} duplicates merged, {one['illegal']} illegal") == 1
    assert "completions: 1 refused" in result.stdout
    assert [row["counts"] for row in json.loads(call(*words, "--json").stdout)["backends"]] == [one, one]
    twice = json.loads(call(*words[:5], "-i", "4 9 10 13", "-i", "4 9 10 13", "--json").stdout)["backends"][0]["counts"]
    whole = json.loads(call("solve", *ORACLE, "--json").stdout)["counts"]
    assert twice == {name: 2 * count for name, count in whole.items()}


def test_each_backend_has_its_counts_where_they_differ() -> None:
    """A judge that says the opposite leads elsewhere."""
    words = ["compare", "-t", "game24", "-b", "helpers:Oracle,helpers:Oracle:wrong", "-i", "4 9 10 13"]
    lines = call(*words).stdout.splitlines()
    assert [line.rsplit(": ", 1)[0] for line in lines if "duplicates merged" in line] == [
        "helpers:Oracle",
        "helpers:Oracle:wrong",
    ]
