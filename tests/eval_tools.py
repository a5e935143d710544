"""A data file of the Game of 24, and evaluations on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from typer.testing import CliRunner

from treeagent import Agent
from treeagent.cli import app
from treeagent.evaluation.outcomes import Outcome, Outcomes
from treeagent.evaluation.run import Evaluation
from treeagent.taskfile import dataset as data

HANDS = ["4 5 6 10", "1 2 3 4", "1 1 1 1", "2 3 5 12", "4 9 10 13", "3 3 8 8", "1 1 1 2", "3 4 5 6"]
"""The third and seventh cannot be solved."""


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    """A data file of the task game24."""
    path = tmp_path / "hands.txt"
    path.write_text("\n".join(HANDS) + "\n")
    return path


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["eval", "--task", "game24", *words])


def run(backend: Oracle, hands: Path, folder: Path, **how: Any) -> tuple[Evaluation, list[Outcome]]:
    """One evaluation; its outcomes by number."""
    agent = Agent("game24", "bfs", backend=backend)
    problems = data.load(agent.task, source=str(hands))
    kept = Outcomes(folder / "outcomes.jsonl", {"search": "bfs"})
    work = Evaluation(agent, problems, folder / "journals", kept, **how)
    asyncio.run(work.run())
    kept.close()
    return work, [outcome for _, outcome in sorted(kept.known.items())]
