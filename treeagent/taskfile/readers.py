"""Rows of a data file, each with its place: a local file, or one of a data set on the Hugging Face hub."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import trust
from ..errors import ConfigError, Problem, did_you_mean
from ..text import DATA_BYTES, cleaned, decode, lines
from .nulls import with_nulls

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
        content = trust.read_regular(path, inside=folder if confined and not fetched else None, most=DATA_BYTES)
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
    parts = lines(str(error).strip())
    return parts[0] if parts else type(error).__name__


def _text(content: bytes, path: Path) -> str:
    try:
        return decode(content)
    except UnicodeDecodeError as error:
        raise ConfigError(f"the data file {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _record(row: Any, path: Path, line: int | None, place: str = "") -> Record:
    """A row, cleaned, with its nulls marked; a column called ``row`` goes before the whole row of that name."""
    if not isinstance(row, dict | list):
        message = f"{place}a row must be a mapping of fields or a list, not {row!r:.60}"
        raise ConfigError([Problem(path, line, "", message)])
    try:
        row = with_nulls(cleaned(row), "a field")
    except ValueError as error:
        raise ConfigError([Problem(path, line, "", f"{place}{error}")]) from error
    return Record({"row": row, **row} if isinstance(row, dict) else {"row": row}, line, place)


def _txt(content: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(lines(_text(content, path)), 1):
        if line.strip():
            yield _record({"line": line}, path, number)


def _jsonl(content: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(lines(_text(content, path)), 1):
        if line.strip():
            yield _record(_parsed(line, path, number), path, number)


def _json(content: bytes, path: Path) -> Iterator[Record]:
    rows = _parsed(_text(content, path), path)
    if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
        rows = list(rows.values())
    if not isinstance(rows, list):
        raise ConfigError([Problem(path, 1, "", "expected a list of rows, or an object whose values are rows")])
    yield from _numbered(rows, path)


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    """The value of a JSON text. Raises ConfigError; ``line`` is the text's own where it is one of several."""
    try:
        return json.loads(text, object_pairs_hook=_mapping, parse_float=_number)
    except json.JSONDecodeError as error:
        raise ConfigError([Problem(path, line or error.lineno, "", f"not JSON: {error.msg}")]) from error
    except OverflowError as error:
        raise ConfigError([Problem(path, line, "", str(error))]) from error
    except ValueError as error:  # a number of thousands of digits; a doubled key
        raise ConfigError([Problem(path, line, "", f"not JSON: {error}")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(path, line, "", "not JSON that can be read: it is nested too deeply")]) from error


def _number(text: str) -> float:
    """A number with a point or an exponent. Raises OverflowError for one that Python would read as infinity."""
    number = float(text)
    if math.isinf(number):
        raise OverflowError(f"the number {text:.40} is beyond the largest of 1.8e308; write it as a text")
    return number


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a key given twice: the first value would be lost in silence."""
    _check_once([name for name, _ in pairs], "key")
    return dict(pairs)


def _check_once(names: Sequence[str], what: str) -> None:
    """Raise ValueError for a name given twice; columns without a name cannot be meant."""
    if len(set(names)) < len(names):
        for name, count in Counter(names).items():
            if count > 1 and name:
                raise ValueError(f"the {what} {name!r} is given twice")


def _numbered(rows: Iterable[Any], path: Path) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        yield _record(row, path, None, f"row {number}: ")


def _csv(content: bytes, path: Path) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(_text(content, path), newline=""), strict=True)  # lines end at LF, CRLF, CR
    limit = csv.field_size_limit(DATA_BYTES)  # the module's own of 128 KiB is less than a long text
    try:
        _check_once(reader.fieldnames or [], "column")
        for row in reader:
            if None in row or None in row.values():
                message = f"the row does not have the {len(reader.fieldnames or [])} fields of the first line"
                raise ConfigError([Problem(path, reader.line_num, "", message)])
            yield _record(row, path, reader.line_num)
    except (csv.Error, ValueError) as error:
        raise ConfigError([Problem(path, reader.reader.line_num, "", f"not CSV: {error}")]) from error
    finally:
        csv.field_size_limit(limit)


def _parquet(content: bytes, path: Path) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet  # noqa: PLC0415  optional
    except ImportError as error:
        raise ConfigError(f"data file {path}: reading Parquet needs pyarrow (pip install pyarrow)") from error
    rows: list[Any] = []
    size = 0
    try:
        file = parquet.ParquetFile(BufferReader(content))
        _check_once(file.schema_arrow.names, "column")
        for batch in file.iter_batches(batch_size=_BATCH):
            size += batch.nbytes
            if size > DATA_BYTES or len(rows) > MOST_ROWS:
                raise ValueError(f"it holds more than {DATA_BYTES >> 20} MiB, or {MOST_ROWS:,} rows, once decompressed")
            rows += batch.to_pylist()
    except (ArrowException, ValueError) as error:
        raise ConfigError(f"data file {path}: not Parquet that can be read: {_first_line(error)}") from error
    yield from _numbered(rows, path)


MOST_ROWS = 2_000_000
"""Most rows of a Parquet file, which may hold any number of equal ones in a few bytes."""
_BATCH = 1024
_READERS: dict[str, Callable[[bytes, Path], Iterator[Record]]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
