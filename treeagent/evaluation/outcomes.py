"""The file of an evaluation: one JSON line for the outcome of each problem, written when the problem ends.

The first line has the settings; only an evaluation with equal settings continues the file. A torn last line is cut
off. A failed problem has a line with its error and is retried when the evaluation continues.
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
    """The outcome of one problem; unknown is None."""

    number: int
    """Row of the data, from 0."""
    input: str
    answer: str | None = None
    right: bool | None = None
    """The verdict of the gold answer, else of the task; None when neither can tell. False without an answer where one
    of them could tell."""
    ended: str = "failed"
    error: str | None = None
    """The failure of the backend, for a problem without a verdict. Not a wrong answer."""
    seconds: float = 0.0
    """From the first request of the problem to its answer, while other problems run."""
    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    dollars: float | None = None
    thoughts: int = 0
    unparsed: int = 0
    illegal: int = 0
    judged: int = 0
    judgements_unparsed: int = 0
    """Samples of the judge without a readable label."""
    duplicates: int | None = None
    """This and the following are None in files of before, which do not have them."""
    truncated: int | None = None
    empty: int | None = None
    refused: int | None = None
    missing: int | None = None
    values: tuple[tuple[float, bool], ...] = ()
    """Value and truth (good or not) of every judged thought whose truth an exact checker knows."""

    @classmethod
    def of(cls, number: int, result: Result, right: bool | None, values: Sequence[tuple[float, bool]]) -> Outcome:
        """From a finished search."""
        usage, counts = result.usage, result.counts
        return cls(
            number, result.input, result.answer, right, result.ended, None, round(result.seconds, 4), usage.calls,
            usage.prompt_tokens, usage.completion_tokens, usage.dollars, counts.thoughts, counts.unparsed,
            counts.illegal, counts.judged, counts.judgements_unparsed, counts.duplicates, counts.truncated,
            counts.empty, counts.refused, counts.missing, tuple(values),
        )  # fmt: skip

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        return total(self.prompt_tokens, self.completion_tokens)


class Outcomes:
    """The file of outcomes, open for appending, and the outcomes in it."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Begin a file, or continue one with equal ``settings``. Raises JournalError."""
        self.path = path
        self.known: dict[int, Outcome] = {}
        header = {"type": "eval", "format": FORMAT, "settings": settings}
        try:
            fresh = not path.exists() or jsonl.torn_at_once(path, '{"type": "eval", ')
            if not fresh:
                recorded, self.known, end = read(path)
                _check_settings(path, recorded, json.loads(json.dumps(settings)))
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
        """Numbers of the problems with a verdict."""
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
    values = {name: value for name, value in record.items() if name in names}
    values["values"] = tuple((float(value), bool(good)) for value, good in values.get("values", ()))
    return Outcome(**values)


def _check_settings(path: Path, recorded: dict[str, Any], settings: dict[str, Any], where: str = "") -> None:
    """Raise JournalError at the first setting in which two evaluations differ."""
    for key in dict.fromkeys((*recorded, *settings)):
        before, now = recorded.get(key), settings.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            _check_settings(path, before, now, f"{where}{key}.")
        raise JournalError(
            f"{path} is another evaluation: its {where}{key} is {before!r}, this one's is {now!r}. Give another folder "
            "with --out, or the same settings to continue it."
        )


def _lock(file: TextIO, path: Path) -> None:
    """Lock the file against other processes while it is open. Raises JournalError when it is locked."""
    try:
        import fcntl  # noqa: PLC0415  # Windows has none
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(f"another process is writing the evaluation {path}; wait for it, or stop it") from error
