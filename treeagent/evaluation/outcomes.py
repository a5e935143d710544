"""The file of an evaluation: what came of every problem, one JSON line each, written as soon as it is known.

The first line says what is evaluated; a file is only gone on with by the same evaluation. A line that a crash has torn
is cut off. A problem that failed stands there with its error, and is tried again when the evaluation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

from ..errors import JournalError
from ..runtime.result import Result

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one problem; unknown is None."""

    number: int
    """Row of the data, from 0."""
    input: str
    answer: str | None = None
    right: bool | None = None
    """The gold answer's verdict, else the task's own; None when nobody can tell. False without an answer."""
    ended: str = "failed"
    error: str | None = None
    """Why there is no verdict: the backend failed. Not a wrong answer."""
    seconds: float = 0.0
    """From the problem's first request to its answer, while others were running."""
    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    dollars: float | None = None
    thoughts: int = 0
    unparsed: int = 0
    illegal: int = 0
    judged: int = 0
    judgements_unparsed: int = 0
    """Judge samples that no label could be read from."""
    values: tuple[tuple[float, bool], ...] = ()
    """Of every judged thought whose truth an exact checker knows: the evaluator's value, and whether it is good."""

    @classmethod
    def of(cls, number: int, result: Result, right: bool | None, values: Sequence[tuple[float, bool]]) -> Outcome:
        """From a finished search."""
        usage, counts = result.usage, result.counts
        return cls(
            number, result.input, result.answer, right, result.ended, None, round(result.seconds, 4), usage.calls,
            usage.prompt_tokens, usage.completion_tokens, usage.dollars, counts.thoughts, counts.unparsed,
            counts.illegal, counts.judged, counts.judgements_unparsed, tuple(values),
        )  # fmt: skip

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        known = self.prompt_tokens is not None and self.completion_tokens is not None
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0) if known else None


class Outcomes:
    """The file, open for appending, and what it already holds."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Begin a file, or go on with one of the same ``settings``. Raises JournalError."""
        self.path = path
        self.known: dict[int, Outcome] = {}
        header = {"type": "eval", "format": FORMAT, "settings": settings}
        try:
            fresh = not path.exists() or _torn_at_once(path)
            if not fresh:
                told, self.known, end = read(path)
                _same(path, told, json.loads(json.dumps(settings)))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a+", encoding="utf-8", newline="\n")
            _lock(self._file, path)
            if fresh:
                self._file.truncate(0)
                self._write(header)
            else:
                self._file.truncate(end)
        except OSError as error:
            raise JournalError(f"cannot write the evaluation {path}: {error.strerror}") from error

    @property
    def done(self) -> set[int]:
        """Numbers of the problems that need not be run again."""
        return {number for number, outcome in self.known.items() if outcome.error is None}

    def add(self, outcome: Outcome) -> None:
        """Append one. Raises JournalError."""
        self.known[outcome.number] = outcome
        try:
            self._write({"type": "outcome", **asdict(outcome)})
        except OSError as error:
            raise JournalError(f"cannot write the evaluation {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read(path: Path) -> tuple[dict[str, Any], dict[int, Outcome], int]:
    """Settings, the last outcome of every problem, and the offset after the last whole line. Raises JournalError."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise JournalError(f"cannot read the evaluation {path}: {error.strerror}") from error
    settings: dict[str, Any] | None = None
    known: dict[int, Outcome] = {}
    end = 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if number == 1:
                settings = _settings(record)
            else:
                outcome = _outcome(record)
                known[outcome.number] = outcome
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) > 1:
                break  # torn
            raise JournalError(f"{path}:{number}: not a line of a treeagent evaluation ({error})") from error
        if not line.endswith(b"\n"):
            break
        end += len(line)
    if settings is None:
        raise JournalError(f"{path}: there is no evaluation in it; it holds no whole line")
    return settings, known, end


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    if record.get("type") != "eval" or record.get("format") != FORMAT:
        raise ValueError(f"the first line of an evaluation of format {FORMAT} says so")
    settings: dict[str, Any] = record["settings"]
    return settings


def _outcome(record: dict[str, Any]) -> Outcome:
    names = {each.name for each in fields(Outcome)}
    given = {name: value for name, value in record.items() if name in names}
    given["values"] = tuple((float(value), bool(good)) for value, good in given.get("values", ()))
    return Outcome(**given)


def _same(path: Path, told: dict[str, Any], settings: dict[str, Any], where: str = "") -> None:
    """Raise JournalError at the first setting in which two evaluations differ."""
    for key in dict.fromkeys((*told, *settings)):
        before, now = told.get(key), settings.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            _same(path, before, now, f"{where}{key}.")
        raise JournalError(
            f"{path} is another evaluation: its {where}{key} is {before!r}, this one's is {now!r}. Give another folder "
            "with --out, or the same settings to go on with it."
        )


def _lock(file: TextIO, path: Path) -> None:
    """Keep other processes from the file as long as it is open. Raises JournalError when one has it."""
    try:
        import fcntl  # noqa: PLC0415  # Windows has none
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(f"another process is writing the evaluation {path}; wait for it, or stop it") from error


def _torn_at_once(path: Path) -> bool:
    """Whether not even the first line was written whole."""
    with path.open("rb") as file:
        return not file.readline().endswith(b"\n")
