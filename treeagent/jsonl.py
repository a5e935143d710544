"""JSON Lines files that programs append to, one record a line; a crash may leave a torn last line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

from .errors import JournalError

T = TypeVar("T")


def scan(path: Path, parse: Callable[[Any], T], what: str) -> Iterator[tuple[T, int]]:
    """What ``parse`` makes of each line, with the byte offset after the line; stops before a torn last line.

    ``what`` names the file in messages, such as ``journal``. Raises JournalError when the file cannot be read, or when
    a line other than the last is not JSON or makes ``parse`` raise.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise JournalError(f"cannot read the {what} {path}: {error.strerror}") from error
    offset = 0
    for number, line in enumerate(lines, 1):
        try:
            record = parse(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == len(lines):
                return
            raise JournalError(f"{path}:{number}: not a line of a treeagent {what} ({error!r})") from error
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        yield record, offset


def torn_at_once(path: Path, start: str) -> bool:
    """Whether a file holds no whole line, so that nothing is lost if it is written anew.

    Either it is empty, or it is the beginning of one line that begins with ``start``. Raises OSError.
    """
    with path.open("rb") as file:
        line = file.readline()
    expected = start.encode()
    return not line.endswith(b"\n") and line[: len(expected)] == expected[: len(line)]


def append(file: TextIO, record: dict[str, Any]) -> None:
    """Write one line and flush it; numbers that are not finite become null. Raises OSError."""
    file.write(strict(record) + "\n")
    file.flush()


def strict(value: Any, **form: Any) -> str:
    """JSON by its standard, which knows no NaN and no Infinity: null stands for them. ``form``: see ``json.dumps``."""
    try:
        return json.dumps(value, allow_nan=False, **form)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **form)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
