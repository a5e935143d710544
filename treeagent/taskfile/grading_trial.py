"""Tries how a task grades, on the first rows of its data: gold answers against themselves and against others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import Problem, TreeagentError
from ..task import Task
from .dataset import Data, DataRow

_ROWS = 20
"""Rows that are tried."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One verdict."""

    number: int
    """Row of the data, from 0."""
    answer: str
    gold: str
    own: bool
    """Whether the answer is the row's gold answer itself; else it is another row's."""
    verdict: bool | None
    """None where grading failed."""
    fault: str = ""

    def __str__(self) -> str:
        word = self.fault or ("right" if self.verdict else "wrong")
        return f"row {self.number + 1}: {_short(self.answer)} against the gold answer {_short(self.gold)}: {word}"


def trials(task: Task, data: Data) -> list[Trial]:
    """Two verdicts for each of the first rows with a gold answer: on itself, and on the next other gold answer.

    Raises MissingExtraError where grading needs a package that is not installed.
    """
    graded = [(row, gold) for row in data.rows if (gold := data.gold.text(row)) is not None][:_ROWS]
    return [trial for place, (row, gold) in enumerate(graded) for trial in _of_row(task, row, gold, graded, place)]


def _of_row(task: Task, row: DataRow, gold: str, graded: Sequence[tuple[DataRow, str]], place: int) -> Iterator[Trial]:
    yield _trial(task, row, gold, gold, own=True)
    others = [other for _, other in (*graded[place + 1 :], *graded[:place]) if other.strip() != gold.strip()]
    if others:
        yield _trial(task, row, others[0], gold, own=False)


def _trial(task: Task, row: DataRow, answer: str, gold: str, *, own: bool) -> Trial:
    try:
        verdict = bool(task.for_row(row.input, row.fields or None).grade(answer, gold))
    except ValueError as error:
        return Trial(row.number, answer, gold, own, None, str(error))
    except TreeagentError as error:
        if not getattr(error, "problems", None):  # a package that is not installed
            raise
        return Trial(row.number, answer, gold, own, None, str(error))
    return Trial(row.number, answer, gold, own, verdict)


def problems(task: Task, tried: Sequence[Trial]) -> list[Problem]:
    """Grading that fails, and gold answers that do not agree with themselves."""
    faults = [trial for trial in tried if trial.verdict is None or (trial.own and not trial.verdict)]
    return _told(task, faults, "the gold answer must agree with itself")


def warnings(task: Task, tried: Sequence[Trial]) -> list[Problem]:
    """Gold answers that agree with those of other rows."""
    loose = [trial for trial in tried if trial.verdict and not trial.own]
    return _told(task, loose, "the gold answer of another row is graded as right")


def _told(task: Task, faults: Sequence[Trial], what: str) -> list[Problem]:
    """One problem for all of a kind, at the key of the task file."""
    if not faults:
        return []
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return [task.problem("answer.grade", f"{what}: {faults[0]}{more}")]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
