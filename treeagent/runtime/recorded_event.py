"""The line of a journal as it was read, and the record that it stands for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import JournalError
from ..jsonl import reason
from . import events
from .events import Event
from .journal_schema import describe


@dataclass(frozen=True, slots=True)
class RecordedEvent(Event):
    """A line as it stands: with the keys and types that this version does not know, without those that it lacks."""

    type: str
    record: dict[str, Any]
    """The fields of the line, also ``t``."""
    place: str = field(default="", compare=False, repr=False)
    """``FILE:LINE`` of an event that was read from a file; empty for others."""

    @property
    def data(self) -> dict[str, Any]:
        """The fields themselves."""
        return self.record

    def typed(self) -> Event:
        """The record of this type; the event itself where this version knows none. Raises JournalError."""
        if self.type not in TYPES:
            return self
        record = self.record
        logprobs = record.get("logprobs") if self.type == "scores" else None
        if isinstance(logprobs, list):
            record = {**record, "logprobs": [-math.inf if each is None else each for each in logprobs]}
        try:
            event: Event = _reader(self.type).validate_python({**record, "type": self.type})
        except ValidationError as error:
            where = f"{self.place}: " if self.place else ""
            raise JournalError(f"{where}this {self.type!r} line is damaged: {describe(error)}") from error
        return event


TYPES: dict[str, type[Event]] = {
    "run": events.RunEvent,
    "resumed": events.ResumedEvent,
    "completion": events.CompletionEvent,
    "scores": events.ScoresEvent,
    "refused": events.RefusedEvent,
    "observed": events.ObservedEvent,
    "rounds": events.RoundsEvent,
    "thought": events.ThoughtEvent,
    "dropped": events.DroppedEvent,
    "judged": events.JudgedEvent,
    "answer": events.AnswerEvent,
    "visited": events.VisitedEvent,
    "early": events.EarlyEvent,
    "failed": events.FailedEvent,
    "end": events.EndEvent,
}


@cache
def _reader(kind: str) -> TypeAdapter[Event]:
    return TypeAdapter(TYPES[kind])


def from_text(line: str) -> Event:
    """The record of a journal's line. Raises JournalError."""
    try:
        record = json.loads(line)
        kind = str(record.pop("type"))
        record.pop("t", None)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise JournalError(f"not a line of a treeagent journal ({reason(error)})") from error
    return RecordedEvent(kind, record).typed()
