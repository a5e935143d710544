"""The events of the searches that run and of the last ones, for the pages of the server."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from ..runtime.events import Event
from ..runtime.recorded_event import RecordedEvent
from .protocol import public

MOST_EVENTS = 20_000
"""Events of a search that are kept. Later ones are not, not even the end, which may name a thought that is not kept."""


@dataclass(slots=True)
class RecentRun:
    """One search."""

    id: str
    model: str
    input: str
    began: float
    """By ``time.time``."""
    ended: str | None = None
    """Why it ended, ``left`` where the client left; None while it runs or waits."""
    _started: float = field(default_factory=time.monotonic)
    _kept: list[tuple[float, Event]] = field(default_factory=list)
    """Seconds since the start with each event; its line is made when a page is shown."""

    @property
    def events(self) -> list[RecordedEvent]:
        """The events that are kept, as lines of a journal."""
        return [RecordedEvent(event.type, {"t": t, **public(event.type, event.data)}) for t, event in list(self._kept)]

    @property
    def size(self) -> int:
        """How many events are kept."""
        return len(self._kept)

    @property
    def thoughts(self) -> int:
        """How many thoughts are among them."""
        return sum(event.type == "thought" for _, event in self._kept)

    def add(self, event: Event) -> None:
        """Keep an event, with its time as a journal has it."""
        if len(self._kept) < MOST_EVENTS:
            self._kept.append((round(time.monotonic() - self._started, 4), event))

    def end(self, why: str) -> None:
        """Note why it ended."""
        self.ended = self.ended or why


class RecentRuns:
    """The searches that run, and as many of those that have ended as are to be kept."""

    def __init__(self, kept: int) -> None:
        """0 keeps no search at all."""
        self._kept = kept
        self._runs: OrderedDict[str, RecentRun] = OrderedDict()

    def begin(self, id: str, model: str, input: str) -> RecentRun | None:
        """A new search; None where none is kept."""
        if not self._kept:
            return None
        run = RecentRun(id, model, input, time.time())
        self._runs[id] = run
        ended = [each.id for each in self._runs.values() if each.ended is not None]
        for old in ended[: max(0, len(self._runs) - self._kept)]:
            del self._runs[old]
        return run

    def get(self, id: str) -> RecentRun | None:
        """The search of this id; None where it is not kept."""
        return self._runs.get(id)

    @property
    def newest_first(self) -> list[RecentRun]:
        """All that are kept."""
        return list(reversed(self._runs.values()))
