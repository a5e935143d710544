"""Few-shot examples: solved rows that prompts show, the same for every input, but never the input's own row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import ConfigError, InputError, Problem
from . import templates
from .data_schema import DataSpec
from .key_lines import KeyLines
from .nulls import NullValueError
from .readers import Record, records

_SPARE = 2
"""Rows that are kept beyond the wanted ones, in place of those that are an input's own."""


@dataclass(frozen=True, slots=True)
class Shots:
    """The rows that may be shown, in the order in which they are drawn; of a large file these alone are kept."""

    count: int
    pool: tuple[Mapping[str, Any], ...]
    """Each with ``input``, ``answer`` and ``row``."""
    inputs: tuple[frozenset[str], ...]
    """The inputs that each of them is no example for, without blanks and case."""

    @property
    def digest(self) -> str:
        """Equal for equal examples in one order."""
        shown = [(self.count, shot["input"], shot["answer"], repr(shot["row"])) for shot in self.pool]
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]

    def for_input(self, input: str) -> tuple[Mapping[str, Any], ...]:
        """The examples of an input's prompts: none that is the input itself."""
        own = bare(input)
        pairs = zip(self.pool, self.inputs, strict=True)
        return tuple(shot for shot, inputs in pairs if own not in inputs)[: self.count]


def load(spec: DataSpec, folder: Path, keys: KeyLines, read: Callable[[str], str]) -> Shots | None:
    """The examples of a task file in ``folder``, None where it names none.

    ``read`` brings an input into its normal form, or raises InputError.

    A row's place in the order is the digest of the seed and its number, so that it depends on neither the machine nor
    the version of Python. Rows without an answer are none. Raises ConfigError.
    """
    shots = spec.shots
    if shots is None:
        return None
    answer = spec.gold if shots.answer is None else shots.answer
    if answer is None:
        raise ConfigError([keys.problem(("data", "shots"), "the key 'answer' is missing, and there is no data.gold")])
    confined = not registry.is_task_folder(folder)
    sha256 = shots.sha256 if shots.file is not None else shots.sha256 or spec.sha256
    try:
        path, rows = records(shots.file or spec.file, folder, sha256, confined=confined)
    except ConfigError as error:
        problems = [
            problem if problem.file else keys.problem(("data", "shots"), problem.message) for problem in error.problems
        ]
        raise ConfigError(problems) from error
    drawn = sorted(range(len(rows)), key=lambda number: hashlib.sha256(f"{shots.seed}:{number}".encode()).digest())
    pool: list[Mapping[str, Any]] = []
    inputs: list[frozenset[str]] = []
    for number in drawn:
        if len(pool) == shots.count + _SPARE:
            break
        shot = _shot(rows[number], shots.input or spec.input, answer, spec, path)
        if shot is None:
            continue
        texts = {shot["input"], *_rendered(spec.input, rows[number])}
        own = frozenset(bare(form) for text in texts for form in {text, _normal(text, read)})
        if not any(own & others for others in inputs):
            pool.append({**shot, "input": _normal(shot["input"], read)})
            inputs.append(own)
    if len(pool) < shots.count:
        message = f"{path} has {len(pool)} different rows with an answer; {shots.count} examples are wanted"
        raise ConfigError([keys.problem(("data", "shots", "count"), message)])
    return Shots(shots.count, tuple(pool), tuple(inputs))


def _shot(record: Record, input: str, answer: str, spec: DataSpec, path: Path) -> Mapping[str, Any] | None:
    """One row; None where its answer is null or empty. Raises ConfigError."""
    try:
        text = templates.render(answer, record.fields, row=True).strip()
        shown = templates.render(input, record.fields, row=True).strip()
    except NullValueError:
        return None
    except templates.FAULTS as fault:
        message = f"{record.place}{templates.describe(fault)}"
        raise ConfigError([Problem(path, record.line, "data.shots", message)]) from fault
    fields = {name: record.fields[name] for name in spec.fields if name in record.fields}
    return {"input": shown, "answer": text, "row": fields} if text else None


def _rendered(template: str, record: Record) -> list[str]:
    """A row's input as ``data.input`` has it, where that fits the file of the examples."""
    try:
        return [templates.render(template, record.fields, row=True)]
    except templates.FAULTS:
        return []


def _normal(text: str, read: Callable[[str], str]) -> str:
    try:
        return read(text)
    except InputError:
        return text


def bare(text: str) -> str:
    """A text without its blanks and the case of its letters."""
    return "".join(text.split()).casefold()
