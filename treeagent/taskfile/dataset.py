"""Inputs from a task's ``data`` file. The gold answers are kept apart: a search gets inputs only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..data_source import DataSource
from ..errors import ConfigError, InputError, did_you_mean
from ..plugin_boundary import PluginBoundary, at_input
from ..task import Task
from . import templates
from .nulls import NullValueError, without_nulls
from .readers import Record, records
from .row_faults import RowFault, problems, template_fault
from .yaml_task import YamlTask


@dataclass(frozen=True, slots=True)
class DataRow:
    """One input."""

    number: int
    """Place in the file, from 0."""
    input: str
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the task names of the row's other fields; no gold answer."""
    group: str | None = None
    """The group that the row is counted in; None where the task names none, or it is null in the row."""


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

    def part(self, numbers: Collection[int]) -> Gold:
        """Those of the rows with these numbers."""
        return Gold(self._task, {number: gold for number, gold in self._answers.items() if number in numbers})

    def text(self, row: DataRow) -> str | None:
        """The gold answer of a row, for the record of an evaluation; no search may see it. None where there is none."""
        return self._answers.get(row.number)

    def grade(self, row: DataRow, answer: str | None) -> bool | None:
        """Whether an answer is right; None when the data has no gold answer for the row.

        Raises ValueError for a gold answer that the task cannot read, and PluginError.
        """
        gold = self._answers.get(row.number)
        if gold is None:
            return None
        with PluginBoundary("task", self._task.name, at_input(row.input), passing=[ValueError]):
            return answer is not None and bool(self._task.for_row(row.input, row.fields or None).grade(answer, gold))


@dataclass(frozen=True, slots=True)
class Data:
    """Inputs, and the gold answers that grade answers to them."""

    rows: tuple[DataRow, ...]
    gold: Gold
    ungraded: int = 0
    """Rows whose gold answer is null or empty, where the task names one."""
    shots: str | None = None
    """Digest of the few-shot examples that prompts show; None where there are none."""

    @property
    def digest(self) -> str:
        """Equal for the same inputs, fields and gold answers under the same numbers, wherever they come from."""
        rows = [(row.number, row.input, *([dict(row.fields)] if row.fields else [])) for row in self.rows]
        more = () if self.shots is None else (self.shots,)
        return hashlib.sha256(repr((rows, self.gold.digest, *more)).encode()).hexdigest()[:16]

    def digest_of(self, numbers: Collection[int]) -> str:
        """The digest of the rows with these numbers."""
        rows = tuple(row for row in self.rows if row.number in numbers)
        return replace(self, rows=rows, gold=self.gold.part(numbers)).digest


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
        row, row_faults = _row(task, spec, number, record, names)
        rows += [] if row is None else [row]
        faults += row_faults
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
        held = f"it has {len(numbered):,} rows, and none is left after the first {start:,}"
        held = held if numbered else "there are no rows in it"
        raise ConfigError(f"{path}: {held}")
    ungraded = 0 if spec.gold is None else len(rows) - len(golds)
    shots = task.shots_digest if isinstance(task, YamlTask) else None
    return Data(tuple(rows), Gold(task, golds), ungraded, shots)


def _row(
    task: Task, spec: DataSource, number: int, record: Record, names: set[str]
) -> tuple[DataRow | None, list[RowFault]]:
    """One row with its faults; None where its input is faulty."""
    faults: list[RowFault] = []
    for name in spec.fields:
        if name not in record.fields:
            known = name in names
            message = f"the field {name!r} of data.fields is missing" + ("" if known else did_you_mean(name, names))
            faults.append(RowFault(record, "data.fields", message, everywhere=not known))
    fields = {name: without_nulls(record.fields[name]) for name in spec.fields if name in record.fields}
    group = None
    try:
        group = optional_text(spec.group, record)
    except templates.FAULTS as fault:
        faults.append(template_fault(fault, "data.group", record, names))
    try:
        input = templates.render(spec.input, record.fields, row=True)
    except templates.FAULTS as fault:
        return None, [*faults, template_fault(fault, "data.input", record, names)]
    try:
        return DataRow(number, task.read_input(input), fields, group), faults
    except InputError as error:
        return None, [*faults, RowFault(record, "", str(error))]


def gold_answer(template: str | None, record: Record) -> str | None:
    """The gold answer of a row; None where it is null or empty. Raises one of ``templates.FAULTS``."""
    return optional_text(template, record)


def optional_text(template: str | None, record: Record) -> str | None:
    """What a template writes of a row; None for a null, for nothing but blanks, and without a template.

    Raises one of ``templates.FAULTS``.
    """
    if template is None:
        return None
    try:
        text = templates.render(template, record.fields, row=True)
    except NullValueError:
        return None
    return text if text.strip() else None
