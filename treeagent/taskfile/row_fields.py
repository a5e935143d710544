"""Which fields of a data row a task file reads, and that none of them is the gold answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import TemplateError

from ..errors import Problem, did_you_mean
from . import templates
from .key_lines import KeyLines, Loc
from .schema import TaskFile


@dataclass(frozen=True, slots=True)
class _RowTemplate:
    """A template or an expression that may read ``row``."""

    loc: Loc
    source: str
    searched: bool
    """Whether a search evaluates it; the others serve grading and votes."""


def needed(spec: TaskFile) -> list[str]:
    """The fields without which a search cannot read an input."""
    named = [] if spec.data is None else spec.data.fields
    read: set[str | int | None] = set()
    for reader in _readers(spec):
        if reader.searched:
            read |= _read(reader)
    return [name for name in named if name in read or None in read]


def problems(spec: TaskFile, keys: KeyLines) -> Iterator[Problem]:
    """Fields that are named as gold, that ``data.fields`` does not name, and rows of examples that lack one."""
    named = [] if spec.data is None else spec.data.fields
    secret = set() if spec.data is None or spec.data.gold is None else _of_gold(spec.data.gold)
    for index, name in enumerate(named):
        if name in secret:
            message = f"data.gold reads {name!r}, so prompts and searches must not: leave it out"
            yield keys.problem(("data", "fields", index), message)
    for reader in _readers(spec):
        for name in sorted(map(str, _read(reader) - {*named, None})):
            if name in secret:
                message = f"row.{name} is named as gold; no prompt, step or grading may read it (grading has 'gold')"
            elif named:
                message = f"unknown field {name!r} of the row.{did_you_mean(name, named)}"
            else:
                message = f"row.{name} is not there: name it in data.fields"
            yield keys.problem(reader.loc, message)
    yield from _example_rows(spec, keys, named)


def _example_rows(spec: TaskFile, keys: KeyLines, named: list[str]) -> Iterator[Problem]:
    rows = spec.input.rows
    if rows is None:
        if wanted := needed(spec):
            yield keys.problem(
                ("input",),
                f"the key 'rows' is missing: for each of the examples a mapping with {', '.join(wanted)}, which "
                "data.fields names",
            )
        return
    if len(rows) != len(spec.input.examples):
        message = f"{len(rows)} row(s) for {len(spec.input.examples)} example(s); there must be one for each"
        yield keys.problem(("input", "rows"), message)
    for index, row in enumerate(rows):
        for name in sorted(set(named) - set(row)):
            yield keys.problem(("input", "rows", index), f"the field {name!r} is missing, which data.fields names")
        for name in sorted(set(row) - set(named)):
            message = f"unknown field {name!r}; data.fields does not name it.{did_you_mean(name, named)}"
            yield keys.problem(("input", "rows", index), message)


def _readers(spec: TaskFile) -> Iterator[_RowTemplate]:
    for _, place, source in spec.prompts.templates():
        yield _RowTemplate(place, source, True)
    yield _RowTemplate(("thought", "state"), spec.thought.state, True)
    for key in ("legal", "terminal"):
        yield _RowTemplate(("thought", key), f"{{{{ {getattr(spec.thought, key)} }}}}", True)
    yield _RowTemplate(("answer", "template"), spec.answer.template, True)
    yield _RowTemplate(("answer", "same"), spec.answer.same, False)
    grade = spec.answer.grade
    if grade is not None and grade.rule is None:
        yield _RowTemplate(("answer", "grade"), f"{{{{ {grade.by} }}}}", False)
    if grade is not None and grade.options is not None:
        yield _RowTemplate(("answer", "grade", "options"), f"{{{{ {grade.options} }}}}", False)


def _read(reader: _RowTemplate) -> set[str | int | None]:
    """The fields of ``row`` that are read; None stands for all of them. Empty for a template that is not valid."""
    try:
        paths = templates.paths(reader.source)
    except (TemplateError, RecursionError, ValueError):  # the last for a number of too many digits
        return set()
    return {path[1] if len(path) > 1 else None for path in paths if path[0] == "row"} - {
        "get",
        "items",
        "keys",
        "values",
    }


def _of_gold(gold: str) -> set[str | int]:
    """The fields of a row that the template of the gold answer reads."""
    try:
        paths = templates.paths(gold)
    except (TemplateError, RecursionError, ValueError):  # the last for a number of too many digits
        return set()
    return {path[0] if path[0] != "row" else path[1] for path in paths if path[0] != "row" or len(path) > 1}
