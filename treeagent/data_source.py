"""Where the inputs of a task are, and what else of a row is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataSource:
    """The file that holds more inputs of a task. It names the gold answers and does not hold them."""

    file: str
    """A path relative to ``folder``, or ``hf://datasets/OWNER/NAME[@REVISION]/PATH``."""
    folder: Path = Path()
    sha256: str | None = None
    """Checksum of the file; a file with another one is refused."""
    input: str = "{{ line }}"
    """Template over a row's fields."""
    gold: str | None = None
    """Template for the gold answer, None where the file has none."""
    confined: bool = False
    """Whether the file must lie in ``folder`` once links are followed, as that of a task file from elsewhere must."""
    fields: tuple[str, ...] = ()
    """Names of further fields of a row that the task may read (:meth:`treeagent.Task.for_row`); no gold answer."""
    group: str | None = None
    """Template for the group that a row is counted in, which no search sees."""
