"""JSON Lines files that programs append to, one record a line; a crash may leave a torn last line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from . import file_lock, trust
from .errors import JournalError
from .text import cleaned

T = TypeVar("T")

LINE_LIMIT = 2**28
"""Bytes of the longest line that is read."""
NESTED_LIMIT = 100
"""Levels of the deepest record that is read; what is written has ten."""


def scan(path: Path, parse: Callable[[Any], T], what: str) -> Iterator[tuple[T, int]]:
    """What ``parse`` makes of each line, with the byte offset after the line; stops before a torn last line.

    ``what`` names the file in messages, such as ``journal``. Numbers that are no JSON (NaN, Infinity), as files of
    before may have them, are read as None. Raises JournalError when the file cannot be read, or when a line other than
    the last is not JSON or makes ``parse`` raise.
    """
    try:
        file = trust.open_regular(path)
    except OSError as error:
        raise JournalError(f"cannot read the {what} {path}: {error.strerror}") from error
    with file:
        offset, number, line = 0, 1, _line(file, path, 1, what)
        while line.endswith(b"\n"):
            following = _line(file, path, number + 1, what)
            try:
                record = parse(_record(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                if not following:
                    return
                raise JournalError(f"{path}:{number}: not a line of a treeagent {what} ({reason(error)})") from error
            offset += len(line)
            yield record, offset
            number, line = number + 1, following


def torn_at_once(path: Path, start: str) -> bool:
    """Whether a file holds no whole line, so that nothing is lost if it is written anew.

    Either it is empty, or it is the beginning of one line that begins with ``start``. Raises OSError.
    """
    with trust.open_regular(path) as file:
        line = file.readline(LINE_LIMIT)
    expected = start.encode()
    return not line.endswith(b"\n") and line[: len(expected)] == expected[: len(line)]


def append(file: TextIO, record: dict[str, Any], *, fsync: bool = False) -> None:
    """Write one line and flush it, with ``fsync`` to the disk. Numbers that are not finite become null.

    Raises OSError.
    """
    file.write(strict(record) + "\n")
    file.flush()
    if fsync:
        file_lock.sync(file)


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


def reason(error: Exception) -> str:
    """What is wrong with a line, in words, by the error that reading it raises."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, KeyError):
        return f"the key {error} is missing"
    return str(error)


def _line(file: BinaryIO, path: Path, number: int, what: str) -> bytes:
    """The next line; empty at the end. Raises JournalError."""
    try:
        line = file.readline(LINE_LIMIT + 1)
    except OSError as error:
        raise JournalError(f"cannot read the {what} {path}: {error.strerror}") from error
    if len(line) > LINE_LIMIT:
        raise JournalError(
            f"{path}:{number}: not a line of a treeagent {what} (it has more than {LINE_LIMIT / 2**20:.0f} MiB)"
        )
    return line


def _record(line: bytes) -> Any:
    """The object of a line. Raises ValueError or RecursionError."""
    record = json.loads(line, parse_constant=lambda _: None)
    if not isinstance(record, dict):
        raise ValueError("expected an object")  # told as a fault of the file
    if line.count(b"[") + line.count(b"{") > NESTED_LIMIT:
        _check_depth(record)
    if b"\\ud" in line or b"\\uD" in line or not line.isascii():
        return cleaned(record)  # files of before may hold half a character, which nothing can print
    return record


def _check_depth(record: Any) -> None:
    """Raise ValueError for a record so deep that those who walk through it could fail."""
    level, depth = [record], 0
    while level:
        depth += 1
        if depth > NESTED_LIMIT:
            raise ValueError(f"it is nested more than {NESTED_LIMIT} levels deep")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(item for item in value.values() if isinstance(item, dict | list))
            elif isinstance(value, list):
                inner.extend(item for item in value if isinstance(item, dict | list))
        level = inner
