"""The section ``data`` of a task file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from ..data_source import DataSource
from .strict_model import Sha256, Strict, Text


class ShotsSpec(Strict):
    """Solved examples for prompts, drawn from a file of rows."""

    file: str | None = None
    """As ``data.file``, which it is where it is not given. Better a file of its own, with training data."""
    sha256: Sha256 | None = None
    count: int = Field(ge=1, le=1000)
    """Examples in a prompt."""
    seed: int = 0
    """Which rows are drawn: the same for every input, but that a row is no example for its own input."""
    input: str | None = None
    """Template over a row's fields; ``data.input`` where it is not given."""
    answer: str | None = None
    """Template for what is shown as the answer, with the reasoning perhaps; ``data.gold`` where it is not given."""


class DataSpec(Strict):
    """The file with more inputs."""

    file: str
    """Relative to the task file, or ``hf://datasets/OWNER/NAME[@REVISION]/PATH``: ``.txt`` (one input a line),
    ``.jsonl``, ``.json`` (a list, or an object of rows), ``.csv`` or ``.parquet``."""
    sha256: Sha256 | None = None
    """Checksum of the file; another file is refused."""
    input: str = "{{ line }}"
    """Template over a row's fields."""
    gold: str | None = None
    """Template for the gold answer, which no search sees."""
    fields: list[Text] = Field(default=[])
    """Further fields of a row: ``row.NAME`` in prompts, in ``thought``, ``answer`` and the checker. No gold answer."""
    group: str | None = None
    """Template for the group that a row is counted in."""
    shots: ShotsSpec | None = None

    def source(self, folder: Path) -> DataSource:
        """As the contract of a task has it, for a task file in ``folder``."""
        return DataSource(
            self.file, folder, self.sha256, self.input, self.gold, True, tuple(self.fields), self.group
        )  # fmt: skip

    @field_validator("fields")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the field {name!r} is named twice")
        return names
