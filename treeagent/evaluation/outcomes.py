"""The file of an evaluation: one JSON line for the outcome of each problem, written when the problem ends.

The first line has the settings; only an evaluation with equal settings continues the file. It may have more problems
than before: a line ``grown`` has their numbers then. A torn last line is cut off. A failed problem has a line with its
error and is retried when the evaluation continues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from .. import file_lock, jsonl
from ..errors import JournalError
from ..options import same_value
from ..runtime.result import Result
from ..sums import total
from ..validation import message

FORMAT = 1
_LONGEST = 200  # characters of a setting in a message


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
    """The failure of a backend or another plug-in, for a problem without a verdict. Not a wrong answer."""
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
    values: tuple[tuple[float, bool], ...] = ()
    """Value and truth (good or not) of every judged thought whose truth an exact checker knows."""
    duplicates: int | None = None
    """This and what follows: as in :class:`Counts`; None in files of before."""
    truncated: int | None = None
    empty: int | None = None
    refused: int | None = None
    missing: int | None = None
    early_hits: int | None = None
    """Requests that were sent early and asked for later; None where none are sent, and in files of before."""
    early_misses: int | None = None
    """Those that were not asked for."""
    early_tokens: int | None = None
    """What these are known to have cost, at least."""
    gold: str | None = None
    """The gold answer; None where there is none, and in files of before, as all that follows."""
    reply: str | None = None
    """The model's text that the answer was read from; None where a template spells the answer."""
    group: str | None = None
    """The group that the problem is counted in."""
    early_seconds: float | None = None
    """Estimate of what early requests saved (:attr:`.Speculated.seconds_saved`); None where none are sent."""
    judge_calls: int | None = None
    """The evaluator's part of ``calls``; None in files of before, as the next two."""
    judge_prompt_tokens: int | None = None
    judge_completion_tokens: int | None = None

    @classmethod
    def of(cls, number: int, result: Result, right: bool | None, values: Sequence[tuple[float, bool]]) -> Outcome:
        """From a finished search; :meth:`recorded` adds what else is known of the row."""
        usage, counts, early, judging = result.usage, result.counts, result.speculated, result.judging
        guesses: dict[str, Any] = {} if early is None else {
            "early_hits": sum(early.hits.values()), "early_misses": sum(early.misses.values()),
            "early_tokens": early.tokens_at_least, "early_seconds": early.seconds_saved,
        }  # fmt: skip
        outcome = cls(
            number, result.input, result.answer, right, result.ended, None, round(result.seconds, 4), usage.calls,
            usage.prompt_tokens, usage.completion_tokens, usage.dollars, counts.thoughts, counts.unparsed,
            counts.illegal, counts.judged, counts.judgements_unparsed, tuple(values), counts.duplicates,
            counts.truncated, counts.empty, counts.refused, counts.missing, **guesses,
        )  # fmt: skip
        return replace(
            outcome, judge_calls=judging.calls, judge_prompt_tokens=judging.prompt_tokens,
            judge_completion_tokens=judging.completion_tokens,
        )  # fmt: skip

    def recorded(self, gold: str | None, group: str | None, reply: str | None = None) -> Outcome:
        """With the gold answer and the group of the row, and the text that the answer was read from."""
        return replace(self, gold=gold, group=group, reply=reply)

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        return total(self.prompt_tokens, self.completion_tokens)

    @property
    def judge_tokens(self) -> int | None:
        """The evaluator's part of ``tokens``."""
        return total(self.judge_prompt_tokens, self.judge_completion_tokens)


_ADAPTER = TypeAdapter(Outcome)


class Outcomes:
    """The file of outcomes, open for appending, and the outcomes in it."""

    def __init__(
        self, path: Path, settings: dict[str, Any], digest_of: Callable[[Collection[int]], str] | None = None
    ) -> None:
        """Begin a file, or continue one with equal ``settings``.

        The evaluation may have more rows than before: ``digest_of`` gives the digest of those that it had. Raises
        JournalError.
        """
        self.path, self._digest_of = path, digest_of
        self.known: dict[int, Outcome] = {}
        self.settings = settings
        """Those of the first line."""
        header = {"type": "eval", "format": FORMAT, "settings": settings}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = file_lock.open_to_write(path, "evaluation", create=True)
            try:  # nothing is read before the file is locked: another process might add to it
                self._begin(header)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise JournalError(f"cannot write the evaluation {path}: {error.strerror}") from error

    def _begin(self, header: dict[str, Any]) -> None:
        """Write the first line, or read the file and cut off a torn last line. Raises JournalError and OSError."""
        if torn_at_once(self.path):
            self._file.truncate(0)
            jsonl.append(self._file, header)
            return
        self.settings, self.known, end = read(self.path)
        settings = json.loads(json.dumps(header["settings"]))
        grown = self._has_grown(self.settings.get("data"), settings.get("data"))
        if grown:
            self.settings["data"] = settings["data"]
        _check_settings(self.path, self.settings, settings)
        self._file.truncate(end)
        self._file.seek(end)
        if grown:
            jsonl.append(self._file, {"type": "grown", "data": settings["data"]})

    def _has_grown(self, before: Any, now: Any) -> bool:
        """Whether the rows of before are some of those of now, and the same."""
        if self._digest_of is None or not (isinstance(before, dict) and isinstance(now, dict)):
            return False
        rows, more = before.get("rows"), now.get("rows")
        if not (isinstance(rows, list) and isinstance(more, list) and rows and set(rows) < set(more)):
            return False
        return self._digest_of(set(rows)) == before.get("digest")

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
        file_lock.close(self._file)


def torn_at_once(path: Path) -> bool:
    """Whether a file holds no whole line of an evaluation. Raises OSError."""
    return jsonl.torn_at_once(path, '{"type": "eval", ')


def read(path: Path) -> tuple[dict[str, Any], dict[int, Outcome], int]:
    """Settings, the last outcome of every problem, and the offset after the last whole line. Raises JournalError."""
    lines = jsonl.scan(path, dict, "evaluation")
    header, end = next(lines, (None, 0))
    if header is None:
        raise JournalError(f"{path}: there is no evaluation in it; it holds no whole line")
    if header.get("type") != "eval" or header.get("format") != FORMAT or not isinstance(header.get("settings"), dict):
        raise JournalError(f"{path}:1: not a treeagent evaluation of format {FORMAT} (its first line says otherwise)")
    known: dict[int, Outcome] = {}
    for line, (record, end) in enumerate(lines, 2):  # noqa: B007  the last end is returned
        if record.get("type") == "grown" and isinstance(record.get("data"), dict):
            header["settings"]["data"] = record["data"]
            continue
        outcome = _outcome(record, f"{path}:{line}")
        known[outcome.number] = outcome
    settings: dict[str, Any] = header["settings"]
    return settings, known, end


def _outcome(record: dict[str, Any], place: str) -> Outcome:
    """The outcome of a line. Raises JournalError with the place and the key."""
    if record.get("type") != "outcome":
        raise JournalError(f"{place}: type: expected 'outcome' after the first line, not {record.get('type')!r}")
    names = {each.name for each in fields(Outcome)}
    values = {name: value for name, value in record.items() if name in names}
    try:
        return _ADAPTER.validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise JournalError(f"{place}: {key}: {message(fault)}; the line has been changed or damaged") from error


def _check_settings(path: Path, recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise JournalError at the first setting in which two evaluations differ."""
    difference = first_difference(recorded, settings)
    if difference is not None:
        key, before, now = difference
        raise JournalError(
            f"{path} is another evaluation: its {key} is {before}, this one's is {now}. Give another folder with "
            "--out, or the same settings to continue it."
        )


def first_difference(first: dict[str, Any], second: dict[str, Any], where: str = "") -> tuple[str, str, str] | None:
    """The first setting in which two evaluations differ: its dotted name and both values as texts; None if equal."""
    for key in dict.fromkeys((*first, *second)):
        if key == "instead_of":  # why the backend was chosen, which no outcome depends on
            continue
        one, other = first.get(key), second.get(key)
        if same_value(one, other):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            inner = first_difference(one, other, f"{where}{key}.")
            if inner is not None:
                return inner
            continue  # they differ in how a value is written only
        return f"{where}{key}", _shown(one), _shown(other)
    return None


def _shown(setting: Any) -> str:
    """A setting in a line; of many row numbers their count and their ends."""
    if isinstance(setting, list) and len(setting) > 8:
        return f"{len(setting):,} values from {setting[0]!r} to {setting[-1]!r}"
    text = repr(setting)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
