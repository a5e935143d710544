"""Files of training data: JSON Lines, or Parquet where the name ends in ``.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import extras
from ..errors import ConfigError
from ..jsonl import strict

SUFFIX = ".parquet"


def as_json_lines(rows: Sequence[dict[str, Any]]) -> str:
    """One object a line."""
    return "".join(strict(row) + "\n" for row in rows)


def check_output(path: Path | None) -> None:
    """Raise MissingExtraError where a library is missing for a file of this name."""
    if path is not None and path.suffix == SUFFIX:
        extras.require(f"a {SUFFIX} file", "pyarrow")


def write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows in the format of the file's name. Raises ConfigError and MissingExtraError."""
    check_output(path)
    try:
        if path.suffix != SUFFIX:
            path.write_text(as_json_lines(rows), encoding="utf-8", newline="\n")
            return
        from pyarrow import ArrowException, Table, parquet  # noqa: PLC0415  of an extra

        try:
            parquet.write_table(Table.from_pylist(list(rows)), path)
        except ArrowException as error:
            raise ConfigError(f"cannot write {path}: {error}. Write JSON Lines instead: another suffix") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
