"""Hands, words and an environment for tests of ``treeagent eval --workers ray``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from treeagent.evaluation.outcomes import Outcome
from treeagent.runtime.journal import read as read_journal

HANDS = ["4 5 6 10", "1 2 3 4", "2 3 5 12", "4 9 10 13"]
EVAL = ("eval", "--task", "game24", "--search", "bfs", "--quiet")
MINI = ("--backend", "seed", "--model", "mini", "--limit", "4")


def environment() -> dict[str, str]:
    """Of processes that import the modules of this folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    """A data file of the task game24."""
    path = tmp_path / "hands.txt"
    path.write_text("\n".join(HANDS) + "\n")
    return path


def timeless(outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
    """Without the seconds that each took."""
    return {number: replace(outcome, seconds=0.0) for number, outcome in sorted(outcomes.items())}


def answers(journals: Path) -> int:
    """The number of requests that have an answer."""
    return sum(event.type == "completion" for file in journals.iterdir() for event in read_journal(file))
