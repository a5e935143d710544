"""What the templates of a task file see of an input's data row, and of the few-shot examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, did_you_mean
from . import row_fields
from .key_lines import KeyLines
from .schema import TaskFile
from .shots import Shots, load


@dataclass(frozen=True, slots=True)
class RowBinding:
    """The rows of a task's examples and its few-shot examples; once bound, those of one input."""

    spec: TaskFile
    shots: Shots | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    """The bound row."""
    shown: tuple[Mapping[str, Any], ...] = ()
    """The few-shot examples of the bound input."""
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The rows of the examples by input."""

    @classmethod
    def of(cls, spec: TaskFile, folder: Path, keys: KeyLines, read: Callable[[str], str]) -> RowBinding:
        """For a task file in ``folder``, whose inputs ``read`` normalises. Raises ConfigError."""
        shots = None if spec.data is None else load(spec.data, folder, keys, read)
        rows: dict[str, Mapping[str, Any]] = {}
        for example, row in zip(spec.input.examples, spec.input.rows or (), strict=False):
            with suppress(InputError):  # reported with the other faults of the examples
                rows[read(example)] = row
        return cls(spec, shots, rows=rows)

    def bound(self, name: str, input: str, row: Mapping[str, Any] | None) -> RowBinding:
        """For one input of the task ``name``. The pool of examples, which may hold its answer, is left behind.

        Raises InputError where a search needs a field that the row lacks, or the row has one that no search reads.
        """
        valid = [] if self.spec.data is None else self.spec.data.fields
        if row and (unknown := [field for field in row if field not in valid]):
            hint = did_you_mean(unknown[0], valid) or " It reads none (data.fields)."
            raise InputError(f"{name} reads no field {unknown[0]!r} of a data row.{hint}")
        row = self.row_of(input) if row is None else row
        if missing := [field for field in row_fields.needed(self.spec) if field not in row]:
            raise InputError(
                f"{name} reads fields of a data row that this input comes without: {', '.join(missing)}. Give "
                "them (--row NAME=VALUE), solve one of its examples, or run 'treeagent eval' on rows that have them"
            )
        return replace(self, row=row, shown=self._shown(input), shots=None, rows={})

    def row_of(self, input: str) -> Mapping[str, Any]:
        """The bound row, else that of the example; empty where there is none."""
        return self.row or self.rows.get(input, {})

    def fields(self, input: str) -> dict[str, Any]:
        """``row`` and ``shots``, where the file has them."""
        data = self.spec.data
        fields: dict[str, Any] = {}
        if data is not None and data.fields:
            fields["row"] = dict(self.row_of(input))
        if data is not None and data.shots is not None:
            fields["shots"] = list(self._shown(input))
        return fields

    def _shown(self, input: str) -> tuple[Mapping[str, Any], ...]:
        return self.shown if self.shots is None else self.shots.for_input(input)
