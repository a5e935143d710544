"""The journal of a run: append-only JSON Lines, one event a line, flushed as it happens.

Resume, replay, viewers and statistics read nothing else. Each line is ``{"type": ..., "t": seconds since the
run began, ...}``; the types are listed in ``docs/reference/journal.md``. A line torn by a crash is cut off before
appending.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from .. import file_lock, jsonl
from ..chat import Message
from ..errors import JournalError
from ..reply import Completion, Reply, Round, Scores, Usage
from ..request import Request, ScoreRequest
from ..world import Observation
from . import journal_schema
from .events import CompletionEvent, EarlyEvent, EndEvent, ObservedEvent, RefusedEvent, RoundsEvent, ScoresEvent
from .events import Event as Event  # noqa: PLC0414  who reads journals imports it from here
from .recorded_event import RecordedEvent
from .recorded_run import RecordedRun
from .result import Result

FORMAT = 1
"""Version of the journal format, in its first line."""


ROUND = ("at", "seconds", "rows", "read", "drafted", "accepted", "tokens")
"""Columns of the event ``rounds``."""


def read(path: Path) -> list[RecordedEvent]:
    """All whole events of a journal. Raises JournalError when it cannot be read or is not a journal."""
    return [event for event, _ in _scan(path)]


def recorded(events: Sequence[Event]) -> dict[str, Any]:
    """The run's settings: its first line, with the limits of the last time it was resumed. Empty without events."""
    if not events:
        return {}
    limits = [event.data["budget"] for event in events if event.type == "resumed" and "budget" in event.data]
    return {**events[0].data, **({"budget": limits[-1]} if limits else {})}


def recorded_run(path: Path) -> RecordedRun:
    """The settings of a journal, checked, from which an agent can be made again. Raises JournalError."""
    events = read(path)
    if not events:
        raise JournalError(f"{path}: there is nothing to resume; the journal holds no whole line")
    try:
        return RecordedRun.model_validate(recorded(events))
    except ValidationError as error:
        fault = journal_schema.describe(error)
        limits = [event.place for event in events if event.type == "resumed" and "budget" in event.data]
        place = limits[-1] if limits and fault.startswith("budget") else events[0].place
        raise JournalError(f"{place}: the run cannot be resumed; its settings are damaged: {fault}") from error


def _scan(path: Path) -> Iterator[tuple[RecordedEvent, int]]:
    """Events with the byte offset after each; stops before a torn last line."""
    for number, (event, offset) in enumerate(jsonl.scan(path, _event, "journal"), 1):
        if number == 1 and (event.type != "run" or event.data.get("format") != FORMAT):
            raise JournalError(f"{path}: not a treeagent journal of format {FORMAT} (its first line says otherwise)")
        form = journal_schema.LINES.get(event.type)
        if form is not None and (fault := journal_schema.fault(form, event.data)):
            raise JournalError(f"{path}:{number}: this {event.type!r} line is damaged: {fault}")
        yield replace(event, place=f"{path}:{number}"), offset


def _event(record: dict[str, Any]) -> RecordedEvent:
    kind = record.pop("type")
    if not isinstance(kind, str):
        raise TypeError(f"its type is {kind!r:.60}, not a text")
    return RecordedEvent(kind, record)


def check_free(path: Path) -> int:
    """0, the offset to write from. Raises JournalError for a file that holds anything; OSError."""
    if not jsonl.torn_at_once(path, '{"type": "run", '):
        raise JournalError(
            f"the journal {path} exists already; 'treeagent resume {path}' continues it, or name another file"
        )
    return 0


class Journal:
    """A journal open for appending, and the answers that it holds. No other process can open it so meanwhile."""

    def __init__(self, path: Path, *, resume: bool = False, fsync: bool = False) -> None:
        """Begin a journal, or continue one; ``fsync`` waits until each line is on the disk. Raises JournalError."""
        self.path = path
        self.replies: dict[str, Reply] = {}
        self.scores: dict[str, Scores] = {}
        self.refusals: dict[str, str] = {}
        """Messages of the requests that were refused, by id."""
        self.observations: dict[str, Observation] = {}
        """What came of steps, by :func:`.observer.observation_id`."""
        self._fsync = fsync
        try:
            self._file: TextIO = file_lock.open_to_write(path, "journal", create=not resume)
            try:
                end = self._read() if resume else check_free(path)
                self._file.truncate(end)
                self._file.seek(end)
                if fsync:
                    file_lock.sync(self._file, folder=path.parent)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error

    def _read(self) -> int:
        """Take the answers of the file, and return the offset after its last whole line. Raises JournalError."""
        end = 0
        for event, end in _scan(self.path):  # noqa: B007  the last end is used below
            self._remember(event.type, event.data)
        if end == 0:
            raise JournalError(f"{self.path}: there is nothing to resume; the journal holds no whole line")
        return end

    def write(self, event: Event, seconds: float) -> None:
        """Append one event, unless it is an answer that this journal holds already. Raises JournalError."""
        record = event.to_record(seconds)
        if not self._remember(event.type, record):
            return
        try:
            jsonl.append(self._file, record, fsync=self._fsync)
        except OSError as error:
            raise JournalError(
                f"cannot write the journal {self.path}: {error.strerror}. What it holds stays; when it can be written "
                f"again, 'treeagent resume {self.path}' continues it."
            ) from error

    def close(self) -> None:
        """Close the file; what was written stays."""
        with contextlib.suppress(OSError):  # a disk that cannot be written was reported by write
            file_lock.close(self._file)

    def _remember(self, kind: str, data: dict[str, Any]) -> bool:
        """Whether the event is to be written: an answer that the journal holds already is not repeated."""
        if kind == "completion":
            new = data["id"] not in self.replies
            self.replies[data["id"]] = reply_from(data)
        elif kind == "scores":
            new = data["id"] not in self.scores
            self.scores[data["id"]] = scores_from(data)
        elif kind == "refused":
            new = data["id"] not in self.refusals
            self.refusals[data["id"]] = str(data["error"])
        elif kind == "observed":
            new = data["id"] not in self.observations
            self.observations[data["id"]] = observation_from(data)
        else:
            new = True
        return new


def completion_event(
    request_id: str,
    role: str,
    prompt: str,
    reply: Reply,
    *,
    messages: Sequence[Message] = (),
    thought: int | None = None,
    seconds: float | None = None,
    model: str | None = None,
) -> CompletionEvent:
    """The event that makes a generation repeatable.

    ``messages`` are those before the prompt. ``thought`` is the thought that the prompt belongs to; ``seconds`` is the
    time the reply took, None for a reply from the journal. ``model`` names one of several that is not the first.
    """
    return CompletionEvent(
        id=request_id, role=role, messages=tuple(messages), prompt=prompt, completions=reply.completions,
        usage=reply.usage, thought=thought, seconds=_rounded(seconds), model=model,
    )  # fmt: skip


def scores_event(
    request_id: str,
    prompt: str,
    scores: Scores,
    continuations: Sequence[str] = (),
    *,
    messages: Sequence[Message] = (),
    thought: int | None = None,
    seconds: float | None = None,
) -> ScoresEvent:
    """The event that makes a scoring repeatable; see :func:`completion_event`."""
    return ScoresEvent(
        id=request_id, messages=tuple(messages), prompt=prompt, continuations=tuple(continuations),
        logprobs=scores.logprobs, lengths=scores.lengths, usage=scores.usage, thought=thought,
        seconds=_rounded(seconds),
    )  # fmt: skip


def refused_event(
    request: Request | ScoreRequest, role: str, error: str, *, thought: int | None = None
) -> RefusedEvent:
    """The event that makes a refusal repeatable; ``role`` is that of the prompt."""
    model = request.key.model or None if isinstance(request, Request) else None
    return RefusedEvent(
        id=request.id, role=role, messages=request.chat.messages, prompt=request.prompt, error=error,
        thought=thought, model=model,
    )  # fmt: skip


def observed_event(
    id: str, observation: Observation, step: str, *, thought: int, seconds: float | None = None
) -> ObservedEvent:
    """The event that makes an observation repeatable; ``thought`` is the one at which the step was taken."""
    return ObservedEvent(
        id=id, thought=thought, text=step, observation=observation.text, error=observation.error,
        seconds=_rounded(seconds),
    )  # fmt: skip


def observation_from(data: dict[str, Any]) -> Observation:
    """Inverse of :func:`observed_event`."""
    return Observation(data["observation"], data["error"])


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def early_event(
    request: Request | ScoreRequest, kind: str, hit: bool, began: float, seconds: float, usage: Usage,
    asked: float | None = None,
) -> EarlyEvent:  # fmt: skip
    """What became of an early request; ``began`` and ``asked`` count from the start of the run."""
    key = request.key if isinstance(request, Request) else None
    return EarlyEvent(
        id=request.id, kind=kind, hit=hit, role="score" if key is None else key.role,
        place=None if key is None else key.place, began=round(began, 4), seconds=round(seconds, 4),
        asked=_rounded(asked), prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens,
    )  # fmt: skip


def rounds_event(rounds: Sequence[Round], began: float, model: str | None) -> RoundsEvent:
    """Rounds of a backend, in columns; their times count from ``began``, by ``time.monotonic``."""
    columns: dict[str, Any] = {name: tuple(getattr(item, name) for item in rounds) for name in ROUND[1:]}
    columns["seconds"] = tuple(round(seconds, 5) for seconds in columns["seconds"])
    return RoundsEvent(model=model, at=tuple(round(item.began - began, 5) for item in rounds), **columns)


def end_event(result: Result) -> EndEvent:
    """The event with which a run ends."""
    return EndEvent(
        input=result.input, answer=result.answer, solved=result.solved, path=result.path,
        thought=None if result.thought is None else result.thought.id, ended=result.ended, usage=result.usage,
        judging=result.judging, models=result.models_json(), seconds=round(result.seconds, 3), seed=result.seed,
        counts=replace(result.counts),
        cut_off=result.cut_off, speculated=None if result.speculated is None else result.speculated.to_json(),
        settings=result.settings, engine=result.engine,
    )  # fmt: skip


def reply_from(data: dict[str, Any]) -> Reply:
    """Inverse of :func:`completion_event`."""
    completions = tuple(
        Completion(
            item["text"], _tuple(item["tokens"]), item["finish"], item.get("logprob"),
            drafted=_tuple(item.get("drafted")), ends=_tuple(item.get("ends")), reasoning=item.get("reasoning"),
        )
        for item in data["completions"]
    )  # fmt: skip
    return Reply(completions, _usage(data["usage"]))


def _tuple(numbers: list[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(numbers)


def scores_from(data: dict[str, Any]) -> Scores:
    """Inverse of :func:`scores_event`; a null in ``logprobs``, which JSON has for minus infinity, is one again."""
    logprobs = tuple(-math.inf if value is None else value for value in data["logprobs"])
    return Scores(logprobs, tuple(data["lengths"]), _usage(data["usage"]))


def _usage(data: dict[str, Any]) -> Usage:
    return Usage(**{item.name: data[item.name] for item in fields(Usage) if item.name in data})
