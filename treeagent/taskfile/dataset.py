"""Inputs from a task's ``data`` file. The gold answers are kept apart: a search gets inputs only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .. import registry
from ..errors import ConfigError, InputError
from ..plugin_boundary import PluginBoundary, at_input
from ..task import Task
from . import templates
from .nulls import NullValueError
from .readers import Record, records
from .row_faults import RowFault, problems, template_fault


@dataclass(frozen=True, slots=True)
class DataRow:
    """One input."""

    number: int
    """Place in the file, from 0."""
    input: str


class Gold:
    """The gold answers by row number. It reveals them only as a verdict on an answer."""

    def __init__(self, task: Task, answers: dict[int, str]) -> None:
        self._task = task
        self._answers = answers

    @property
    def digest(self) -> str:
        """Digest of all gold answers."""
        return hashlib.sha256(repr(sorted(self._answers.items())).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._answers)

    def grade(self, row: DataRow, answer: str | None) -> bool | None:
        """Whether an answer is right; None when the data has no gold answer for the row.

        Raises ValueError for a gold answer that the task cannot read, and PluginError.
        """
        gold = self._answers.get(row.number)
        if gold is None:
            return None
        with PluginBoundary("task", self._task.name, at_input(row.input), passing=[ValueError]):
            return answer is not None and bool(self._task.grade(answer, gold))


@dataclass(frozen=True, slots=True)
class Data:
    """Inputs, and the gold answers that grade answers to them."""

    rows: tuple[DataRow, ...]
    gold: Gold
    ungraded: int = 0
    """Rows whose gold answer is null or empty, where the task names one."""

    @property
    def digest(self) -> str:
        """Equal for the same inputs and gold answers under the same numbers, wherever they come from."""
        rows = [(row.number, row.input) for row in self.rows]
        return hashlib.sha256(repr((rows, self.gold.digest)).encode()).hexdigest()[:16]


def load(task: Task, start: int = 0, stop: int | None = None, source: str | None = None) -> Data:
    """The rows ``start`` to ``stop`` (excluded) of a task's data, or of another file of the same form.

    ``source`` is a path or ``hf://datasets/OWNER/NAME[@REVISION]/PATH``. Raises ConfigError, listing every faulty row,
    when the task names no data, the file cannot be read or is not the one meant, a template does not fit a row, or an
    input is null or does not have the task's form. A gold answer that is null or empty is none.
    """
    spec = task.data
    if spec is None:
        raise ConfigError(
            f"the task {task.name!r} names no data; give inputs, or add a section 'data' to its file (the property "
            "'data' to its class)"
        )
    if source is None:
        confined = spec.confined and not registry.is_task_folder(spec.folder)  # installers may use links
        path, numbered = records(spec.file, spec.folder, spec.sha256, confined=confined)
    else:
        path, numbered = records(source, Path())
    chosen = list(enumerate(numbered))[start:stop]
    names = {name for _, record in chosen for name in record.fields}
    rows: list[DataRow] = []
    golds: dict[int, str] = {}
    faults: list[RowFault] = []
    for number, record in chosen:
        input = None
        try:
            input = templates.render(spec.input, record.fields, row=True)
        except templates.FAULTS as fault:
            faults.append(template_fault(fault, "data.input", record, names))
        try:
            rows += [] if input is None else [DataRow(number, task.read_input(input))]
        except InputError as error:
            faults.append(RowFault(record, "", str(error)))
        try:
            gold = gold_answer(spec.gold, record)
        except templates.FAULTS as fault:
            faults.append(template_fault(fault, "data.gold", record, names))
            continue
        if gold is not None:
            golds[number] = gold
    if faults:
        raise ConfigError(problems(faults, task, path, len(chosen)))
    if not rows:
        raise ConfigError(f"{path}: no rows from {start} to {'the end' if stop is None else stop}")
    return Data(tuple(rows), Gold(task, golds), ungraded=0 if spec.gold is None else len(rows) - len(golds))


def gold_answer(template: str | None, record: Record) -> str | None:
    """The gold answer of a row; None where it is null or empty. Raises one of ``templates.FAULTS``."""
    if template is None:
        return None
    try:
        gold = templates.render(template, record.fields, row=True)
    except NullValueError:
        return None
    return gold if gold.strip() else None
