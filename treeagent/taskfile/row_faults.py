"""Faults of data rows, each said once: at the task file's key where the template is wrong, else at the row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateSyntaxError

from ..errors import Problem, did_you_mean
from ..task import Task
from . import templates
from .nulls import NullValueError
from .readers import Record

MOST = 50
"""Most faults that are listed; the last line says how many there are beyond."""
_UNDEFINED = re.compile(r"'(?P<name>\w+)' is undefined")


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with one row."""

    record: Record
    key: str
    """``data.input``, ``data.gold``, or empty where the row itself is at fault."""
    message: str
    everywhere: bool = False
    """Whether every row would have it."""


def template_fault(fault: Exception, key: str, record: Record, names: set[str]) -> RowFault:
    """The fault of a template that cannot be rendered; ``names`` are the fields of all rows."""
    if isinstance(fault, NullValueError):
        return RowFault(record, key, str(fault))
    undefined = _UNDEFINED.fullmatch(str(fault))
    if undefined is None:
        return RowFault(record, key, templates.describe(fault), everywhere=isinstance(fault, TemplateSyntaxError))
    name = undefined["name"]
    if name not in names:
        return RowFault(record, key, f"unknown variable {name!r}.{did_you_mean(name, names)}", everywhere=True)
    fields = ", ".join(sorted(set(record.fields) - {"row"})) or "none"
    message = (
        f"unknown variable {name!r}; this row has: {fields}. Write {{{{ {name} | default('') }}}} (in a mapping: "
        f"row.{name} | default('')) where a row may lack it"
    )
    return RowFault(record, key, message)


def problems(faults: list[RowFault], task: Task, path: Path, rows: int) -> list[Problem]:
    """The faults of a file of so many ``rows`` as they are told, those with one message together."""
    groups: dict[tuple[str, str], list[RowFault]] = {}
    for fault in faults:
        groups.setdefault((fault.key, fault.message), []).append(fault)
    told = []
    for (key, message), group in groups.items():
        first = group[0]
        if key and (first.everywhere or len(group) == rows > 1):
            told.append(task.problem(key, f"{message} (in every row of {path})"))
            continue
        more = f" (and in {len(group) - 1:,} further rows)" if len(group) > 1 else ""
        told.append(Problem(path, first.record.line, key, f"{first.record.place}{message}{more}"))
    if len(told) > MOST:
        told[MOST:] = [Problem(path, None, "", f"{len(told) - MOST:,} further faults of rows are not listed")]
    return told
