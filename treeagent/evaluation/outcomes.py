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

from .. import jsonl
from ..errors import JournalError
from ..runtime.result import Result
from ..sums import total

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
        return total(self.prompt_tokens, self.completion_tokens)


class Outcomes:
    """The file, open for appending, and what it already holds."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Begin a file, or go on with one of the same ``settings``. Raises JournalError."""
        self.path = path
        self.known: dict[int, Outcome] = {}
        header = {"type": "eval", "format": FORMAT, "settings": settings}
        try:
            fresh = not path.exists() or jsonl.torn_at_once(path, '{"type": "eval", ')
            if not fresh:
                told, self.known, end = read(path)
                _same(path, told, json.loads(json.dumps(settings)))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a+", encoding="utf-8", newline="\n")
            _lock(self._file, path)
            if fresh:
                self._file.truncate(0)
                jsonl.append(self._file, header)
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
            jsonl.append(self._file, {"type": "outcome", **asdict(outcome)})
        except OSError as error:
            raise JournalError(f"cannot write the evaluation {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> tuple[dict[str, Any], dict[int, Outcome], int]:
    """Settings, the last outcome of every problem, and the offset after the last whole line. Raises JournalError."""
    lines = jsonl.scan(path, _parsed, "evaluation")
    header, end = next(lines, (None, 0))
    if header is None:
        raise JournalError(f"{path}: there is no evaluation in it; it holds no whole line")
    if isinstance(header, Outcome) or header["type"] != "eval" or header.get("format") != FORMAT:
        raise JournalError(f"{path}: not a treeagent evaluation of format {FORMAT} (its first line says otherwise)")
    known: dict[int, Outcome] = {}
    for outcome, end in lines:  # noqa: B007  the last end is returned
        if not isinstance(outcome, Outcome):
            raise JournalError(f"{path}: a line of the type {outcome['type']!r} follows its first line")
        known[outcome.number] = outcome
    settings: dict[str, Any] = header["settings"]
    return settings, known, end


def _parsed(record: dict[str, Any]) -> dict[str, Any] | Outcome:
    """An outcome, or any other line as it is."""
    return _outcome(record) if record["type"] == "outcome" else record


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
