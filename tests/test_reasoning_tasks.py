"""Public kinds of reasoning tasks as YAML without Python: right answers are graded right, however they are written."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from reasoning_tasks import KINDS, MATH, PROSQA, Kind

from treeagent import Task
from treeagent.taskfile import dataset, grading_trial

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the six; mathematics needs its package."""
    chosen: Kind = request.param
    if chosen is MATH and find_spec("math_verify") is None:
        pytest.skip("needs the extra math")
    return chosen


def test_every_row_agrees_with_its_answer_and_its_variants(kind: Kind, tmp_path: Path) -> None:
    """The gold answer as it stands and each way in which a model may write it; nothing else."""
    data = dataset.load(kind.load(tmp_path))
    assert len(data.rows) == len(kind.rows) == len(kind.right) == len(kind.wrong)
    for row, right, wrong in zip(data.rows, kind.right, kind.wrong, strict=True):
        for answer in (data.gold.text(row), *right):
            assert data.gold.grade(row, answer) is True, answer
        for answer in (*wrong, None):
            assert data.gold.grade(row, answer) is False, answer


def test_the_trial_of_validate_finds_no_fault(kind: Kind, tmp_path: Path) -> None:
    """Each gold answer agrees with itself and with no other."""
    task = kind.load(tmp_path)
    tried = grading_trial.trials(task, dataset.load(task))
    assert [trial.verdict for trial in tried if trial.own] == [True] * len(kind.rows)
    assert grading_trial.problems(task, tried) == grading_trial.warnings(task, tried) == []


def test_a_row_decides_which_steps_are_legal(tmp_path: Path) -> None:
    """Edges of the graph that the row has, and no others."""
    task = PROSQA.load(tmp_path)
    [row] = dataset.load(task).rows
    bound = task.for_row(row.input, row.fields)
    root = bound.root(row.input)
    faults = [
        step.fault
        for text in ("Bo is a gorpus", "Bo is a terpus", "Bo")
        for step in bound.read_thoughts("sample", text, row.input, root, [])
    ]
    assert faults == [None, "illegal", "unparsed"]


@pytest.mark.parametrize("name", ["multiple_choice", "sorting"])
def test_the_examples_grade_their_rows(name: str) -> None:
    """The files in examples/ have rows of their own."""
    task = Task.load(EXAMPLES / f"{name}.yaml")
    tried = grading_trial.trials(task, dataset.load(task))
    assert tried
    assert grading_trial.problems(task, tried) == grading_trial.warnings(task, tried) == []
