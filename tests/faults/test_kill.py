"""kill -9 at random moments of solve, resume and eval: whoever goes on ends with the same answers."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, call
from processes import count_calls, killed_at

from treeagent.evaluation.outcomes import read

MANY = int(os.environ.get("TREEAGENT_TRIALS", "8"))
"""Cases of an exhaustive run."""

TIMES = [2, pytest.param(MANY, marks=pytest.mark.exhaustive)]
HANDS = "4 9 10 13\n4 5 6 10\n1 2 4 7\n5 5 5 9\n"


def essence(result: dict[str, Any]) -> dict[str, Any]:
    """What a kill must not change."""
    return {name: result[name] for name in ("answer", "path", "solved", "ended", "counts", "usage")}


def resumed(journal: Path, words: list[str]) -> dict[str, Any]:
    """The result of going on; a run that was killed before its first line is begun again."""
    if not journal.exists() or not journal.read_bytes().count(b"\n"):
        words = words if words[0] == "solve" else ["solve", *ORACLE, "--json", "--journal", str(journal)]
    else:
        words = ["resume", str(journal), "--allow-code", "--json"]
    result = call(*words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_solve_resumes_to_the_same_answer(times: int, tmp_path: Path) -> None:
    """Seeds 0 to ``times``; some kills hit the run before its first line, some after its last."""
    whole = tmp_path / "whole.jsonl"
    calls = count_calls(["solve", *ORACLE, "--json", "--journal", str(whole)])
    expected = essence(resumed(whole, []))
    hit = 0
    for number in range(times):
        journal = tmp_path / f"{number}.jsonl"
        words = ["solve", *ORACLE, "--json", "--journal", str(journal)]
        hit += killed_at(words, random.Random(number).random(), calls)
        assert essence(resumed(journal, words)) == expected
    assert hit == times


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_resume_resumes_to_the_same_answer(times: int, tmp_path: Path) -> None:
    """From a journal cut at a random byte, killed at a random moment, twice."""
    whole = tmp_path / "whole.jsonl"
    calls = count_calls(["solve", *ORACLE, "--json", "--journal", str(whole)])
    content = whole.read_bytes()
    expected = essence(resumed(whole, []))
    hit = 0
    for number in range(times):
        chance, journal = random.Random(number), tmp_path / f"{number}.jsonl"
        journal.write_bytes(content[: chance.randrange(content.index(b"\n") + 1, len(content))])
        words = ["resume", str(journal), "--allow-code", "--json"]
        for _ in range(2):
            hit += killed_at(words, chance.random(), calls)
        assert essence(resumed(journal, words)) == expected
    assert hit


@pytest.mark.parametrize("times", TIMES)
def test_a_killed_evaluation_goes_on_to_the_same_outcomes(times: int, tmp_path: Path) -> None:
    """The same command again finishes it."""
    data = tmp_path / "hands.txt"
    data.write_text(HANDS)
    words = ["eval", *ORACLE[:4], "--data", str(data), "--quiet", "--out"]

    def outcomes(folder: Path) -> list[tuple[Any, ...]]:
        known = read(folder / "outcomes.jsonl")[1].values()
        return [(each.number, each.answer, each.right, each.calls, each.thoughts, each.error) for each in known]

    calls = count_calls([*words, str(tmp_path / "whole")])
    expected = sorted(outcomes(tmp_path / "whole"))
    hit = 0
    for number in range(times):
        folder = tmp_path / str(number)
        hit += killed_at([*words, str(folder)], random.Random(number).random(), calls)
        result = call(*words, str(folder))
        assert result.exit_code == 0, result.output
        assert sorted(outcomes(folder)) == expected
    assert hit == times
