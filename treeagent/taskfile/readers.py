"""Rows of a data file, each with its place: a local file, or one of a data set on the Hugging Face hub."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import trust
from ..errors import ConfigError, Problem, did_you_mean

HUB = "hf://"
_ON_HUB = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file."""

    fields: dict[str, Any]
    """The row's own, and ``row``: all of it, for names that are no identifiers and for rows that are lists."""
    line: int | None = None
    """Where it ends, from 1; None in files without lines."""
    place: str = ""
    """``row 3: `` in files without lines, counted from 1."""


def records(
    source: str, folder: Path, sha256: str | None = None, *, confined: bool = False
) -> tuple[Path, list[Record]]:
    """The file, fetched where need be, and its rows.

    ``source`` is a path, relative to ``folder``, or ``hf://datasets/OWNER/NAME[@REVISION]/PATH``; a ``confined`` path
    must not lead out of ``folder``. Raises ConfigError when it cannot be fetched or read, when its SHA-256 is another
    than wanted, or when it does not hold rows.
    """
    fetched = source.startswith(HUB)
    path = _fetched(source) if fetched else folder / source
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ConfigError(f"data file {path}: unknown kind {path.suffix!r}.{did_you_mean(path.suffix, _READERS)}")
    try:
        content = trust.read_regular(path, inside=folder if confined and not fetched else None)
    except OSError as error:
        raise ConfigError(f"cannot read the data file {path}: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ConfigError(f"the data file {path} is another one: its SHA-256 is {digest}, expected {sha256}")
    return path, list(reader(content, path))


def _fetched(source: str) -> Path:
    """The file in the hub's own cache, downloaded once."""
    match = _ON_HUB.fullmatch(source)
    if match is None:
        raise ConfigError(f"data file {source}: a file on the hub is written hf://datasets/OWNER/NAME[@REVISION]/PATH")
    try:
        from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415  optional, and slow to import
    except ImportError as error:
        raise ConfigError(
            f"data file {source}: fetching it needs huggingface_hub (pip install huggingface_hub)"
        ) from error
    try:
        return Path(hf_hub_download(match["repo"], match["file"], repo_type="dataset", revision=match["revision"]))
    except (OSError, ValueError, errors.EntryNotFoundError) as error:  # the hub's own errors are of all three kinds
        raise ConfigError(f"cannot fetch {source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the data file {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _record(row: Any, path: Path, line: int | None, place: str = "") -> Record:
    if isinstance(row, dict):
        return Record({**row, "row": row}, line, place)
    if isinstance(row, list):
        return Record({"row": row}, line, place)
    raise ConfigError([Problem(path, line, "", f"{place}a row must be a mapping of fields or a list, not {row!r:.60}")])


def _txt(content: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(_text(content, path).splitlines(), 1):
        if line.strip():
            yield _record({"line": line}, path, number)


def _jsonl(content: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(_text(content, path).split("\n"), 1):  # a JSON text may hold other line separators
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError([Problem(path, number, "", f"not JSON: {error}")]) from error
            yield _record(row, path, number)


def _json(content: bytes, path: Path) -> Iterator[Record]:
    try:
        rows = json.loads(_text(content, path))
    except json.JSONDecodeError as error:
        raise ConfigError([Problem(path, error.lineno, "", f"not JSON: {error.msg}")]) from error
    if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
        rows = list(rows.values())
    if not isinstance(rows, list):
        raise ConfigError([Problem(path, 1, "", "expected a list of rows, or an object whose values are rows")])
    yield from _numbered(rows, path)


def _numbered(rows: Iterable[Any], path: Path) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        yield _record(row, path, None, f"row {number}: ")


def _csv(content: bytes, path: Path) -> Iterator[Record]:
    reader = csv.DictReader(_text(content, path).splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                message = f"the row does not have the {len(reader.fieldnames or [])} fields of the first line"
                raise ConfigError([Problem(path, reader.line_num, "", message)])
            yield _record(row, path, reader.line_num)
    except csv.Error as error:
        raise ConfigError([Problem(path, reader.line_num, "", f"not CSV: {error}")]) from error


def _parquet(content: bytes, path: Path) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet  # noqa: PLC0415  optional
    except ImportError as error:
        raise ConfigError(f"data file {path}: reading Parquet needs pyarrow (pip install pyarrow)") from error
    try:
        rows = parquet.read_table(BufferReader(content)).to_pylist()
    except ArrowException as error:
        raise ConfigError(f"data file {path}: not Parquet: {_first_line(error)}") from error
    yield from _numbered(rows, path)


_READERS: dict[str, Callable[[bytes, Path], Iterator[Record]]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
