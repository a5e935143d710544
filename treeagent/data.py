"""Inputs from a task's ``data`` file. The gold answers are kept apart: a search is handed inputs and nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import templates
from .errors import ConfigError, InputError, Problem, did_you_mean
from .task import Task


@dataclass(frozen=True, slots=True)
class Row:
    """One input."""

    number: int
    """Place in the file, from 0."""
    input: str


class Gold:
    """The gold answers by row number. They come out only as a verdict on an answer that has been given."""

    def __init__(self, task: Task, answers: dict[int, str]) -> None:
        self._task = task
        self._answers = answers

    def __len__(self) -> int:
        return len(self._answers)

    def grade(self, row: Row, answer: str | None) -> bool | None:
        """Whether an answer is right; None when the data has no gold answer for the row."""
        gold = self._answers.get(row.number)
        if gold is None:
            return None
        return answer is not None and self._task.checker.grade(answer, gold)


@dataclass(frozen=True, slots=True)
class Data:
    """Inputs, and apart from them what grades the answers."""

    rows: tuple[Row, ...]
    gold: Gold


def load(task: Task, start: int = 0, stop: int | None = None) -> Data:
    """The rows ``start`` to ``stop`` (excluded) of a task's data.

    Raises ConfigError, listing every faulty row, when the task names no data, the file cannot be read, a template
    does not fit a row, or an input does not have the task's form.
    """
    spec = task.spec.data
    if spec is None:
        raise ConfigError(f"the task {task.name!r} names no data; give inputs, or add a section 'data' to its file")
    path = (task.path.parent if task.path else Path()) / spec.file
    rows: list[Row] = []
    golds: dict[int, str] = {}
    problems: list[Problem] = []
    for number, (line, fields) in enumerate(_records(path)):
        if number < start or (stop is not None and number >= stop):
            continue
        try:
            rows.append(Row(number, task.read_input(_render(spec.input, "data.input", path, line, fields))))
            if spec.gold is not None:
                golds[number] = _render(spec.gold, "data.gold", path, line, fields)
        except ConfigError as error:
            problems += error.problems
        except InputError as error:
            problems.append(Problem(path, line, "", str(error)))
    if problems:
        raise ConfigError(problems)
    if not rows:
        raise ConfigError(f"{path}: no rows from {start} to {'the end' if stop is None else stop}")
    return Data(tuple(rows), Gold(task, golds))


def _render(source: str, key: str, path: Path, line: int, fields: dict[str, Any]) -> str:
    faults = templates.faults(source, fields)
    if faults:
        raise ConfigError([Problem(path, line, key, message) for _, message in faults])
    try:
        return templates.render(source, fields)
    except templates.FAULTS as fault:
        raise ConfigError([Problem(path, line, key, templates.describe(fault))]) from fault


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of each record; ``row`` holds them all, for names that are no identifiers."""
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ConfigError(f"data file {path}: unknown kind {path.suffix!r}.{did_you_mean(path.suffix, _READERS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the data file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the data file {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    for line, record in reader(text, path):
        if not isinstance(record, dict):
            raise ConfigError([Problem(path, line, "", f"a row must be a mapping of fields, not {record!r:.60}")])
        yield line, {**record, "row": record}


def _txt(text: str, _path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, {"line": line}


def _jsonl(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise ConfigError([Problem(path, number, "", f"not JSON: {error}")]) from error


def _json(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError([Problem(path, error.lineno, "", f"not JSON: {error.msg}")]) from error
    if not isinstance(records, list):
        raise ConfigError([Problem(path, 1, "", "expected a list of rows")])
    for record in records:
        yield 1, record


def _csv(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for record in reader:
            if None in record or None in record.values():
                message = f"the row does not have the {len(reader.fieldnames or [])} fields of the first line"
                raise ConfigError([Problem(path, reader.line_num, "", message)])
            yield reader.line_num, record
    except csv.Error as error:
        raise ConfigError([Problem(path, reader.line_num, "", f"not CSV: {error}")]) from error


_READERS = {".txt": _txt, ".jsonl": _jsonl, ".json": _json, ".csv": _csv}
