"""The journal of a run: append-only JSON Lines, one event a line, flushed as it happens.

Resume, replay, viewers and statistics read nothing else. Each line is ``{"type": ..., "t": seconds since the
run began, ...}``; the types are listed in ``docs/reference/journal.md``. A line torn by a crash is cut off before
appending.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from .. import jsonl
from ..backend import Completion, Reply, Round, Scores, Usage
from ..errors import JournalError

FORMAT = 1
"""Version of the journal format, in its first line."""


ROUND = ("at", "seconds", "rows", "read", "drafted", "accepted", "tokens")
"""Columns of the event ``rounds``."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a run."""

    type: str
    """``run``, ``resumed``, ``completion``, ``scores``, ``refused``, ``rounds``, ``thought``, ``dropped``, ``judged``,
    ``answer``, ``failed`` or ``end``."""
    data: dict[str, Any]
    """The event's own fields, ready for JSON."""


def read(path: Path) -> list[Event]:
    """All whole events of a journal. Raises JournalError when it cannot be read or is not a journal."""
    return [event for event, _ in _scan(path)]


def recorded(events: Sequence[Event]) -> dict[str, Any]:
    """The run's settings: its first line, with the limits of the last time it was resumed. Empty without events."""
    if not events:
        return {}
    limits = [event.data["budget"] for event in events if event.type == "resumed" and "budget" in event.data]
    return {**events[0].data, **({"budget": limits[-1]} if limits else {})}


def _scan(path: Path) -> Iterator[tuple[Event, int]]:
    """Events with the byte offset after each; stops before a torn last line."""
    first = True
    for event, offset in jsonl.scan(path, _event, "journal"):
        if first and (event.type != "run" or event.data.get("format") != FORMAT):
            raise JournalError(f"{path}: not a treeagent journal of format {FORMAT} (its first line says otherwise)")
        first = False
        yield event, offset


def _event(record: dict[str, Any]) -> Event:
    return Event(record.pop("type"), record)


class Journal:
    """A journal open for appending, and the answers that it holds."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.replies: dict[str, Reply] = {}
        self.scores: dict[str, Scores] = {}
        self.refusals: dict[str, str] = {}
        """Messages of the requests that were refused, by id."""
        end = 0
        if resume:
            for event, end in _scan(path):  # noqa: B007  the last end is used below
                try:
                    self._remember(event)
                except (KeyError, TypeError) as error:
                    raise JournalError(f"{path}: a {event.type!r} line is damaged ({error!r})") from error
            if end == 0:  # the offset after the last whole line
                raise JournalError(f"{path}: there is nothing to resume; the journal holds no whole line")
        try:
            if not resume and path.is_file() and not jsonl.torn_at_once(path, '{"type": "run", '):
                raise JournalError(
                    f"the journal {path} exists already; 'treeagent resume {path}' continues it, or name another file"
                )
            self._file: TextIO = path.open("r+" if resume else "w", encoding="utf-8", newline="\n")
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error

    def write(self, event: Event, seconds: float) -> None:
        """Append one event, unless it is an answer that this journal holds already. Raises JournalError."""
        if not self._remember(event):
            return
        try:
            jsonl.append(self._file, {"type": event.type, "t": round(seconds, 4), **event.data})
        except OSError as error:
            raise JournalError(f"cannot write the journal {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; what was written stays."""
        with contextlib.suppress(OSError):  # a disk that cannot be written was reported by write
            self._file.close()

    def _remember(self, event: Event) -> bool:
        """Whether the event is to be written: an answer that the journal holds already is not repeated."""
        if event.type == "completion":
            new = event.data["id"] not in self.replies
            self.replies[event.data["id"]] = reply_from(event.data)
        elif event.type == "scores":
            new = event.data["id"] not in self.scores
            self.scores[event.data["id"]] = scores_from(event.data)
        elif event.type == "refused":
            new = event.data["id"] not in self.refusals
            self.refusals[event.data["id"]] = str(event.data["error"])
        else:
            new = True
        return new


def completion_event(
    request_id: str, role: str, prompt: str, reply: Reply, *, thought: int | None = None, seconds: float | None = None
) -> Event:
    """The event that makes a generation repeatable.

    ``thought`` is the thought that the prompt belongs to; ``seconds`` is the time the reply took, None for a reply from
    the journal.
    """
    data = {
        "id": request_id,
        "role": role,
        "prompt": prompt,
        "completions": [_known(asdict(completion), *_OPTIONAL) for completion in reply.completions],
        "usage": asdict(reply.usage),
        "thought": thought,
        "seconds": None if seconds is None else round(seconds, 4),
    }
    return Event("completion", data)


def scores_event(
    request_id: str,
    prompt: str,
    scores: Scores,
    continuations: Sequence[str] = (),
    *,
    thought: int | None = None,
    seconds: float | None = None,
) -> Event:
    """The event that makes a scoring repeatable; see :func:`completion_event`."""
    data = {"id": request_id, "prompt": prompt, "continuations": list(continuations), **asdict(scores)}
    return Event("scores", {**data, "thought": thought, "seconds": None if seconds is None else round(seconds, 4)})


def refused_event(request_id: str, role: str, prompt: str, error: str, *, thought: int | None = None) -> Event:
    """The event that makes a refusal repeatable; ``role`` is that of the prompt."""
    return Event("refused", {"id": request_id, "role": role, "prompt": prompt, "error": error, "thought": thought})


def rounds_event(rounds: Sequence[Round], began: float, model: str | None) -> Event:
    """Rounds of a backend, in columns; their times count from ``began``, by ``time.monotonic``."""
    columns: dict[str, list[Any]] = {name: [getattr(item, name) for item in rounds] for name in ROUND[1:]}
    columns["seconds"] = [round(seconds, 5) for seconds in columns["seconds"]]
    return Event("rounds", {"model": model, "at": [round(item.began - began, 5) for item in rounds], **columns})


_OPTIONAL = ("logprob", "drafted", "ends", "reasoning")
"""Fields of a completion that a journal leaves out where they are None."""


def _known(data: dict[str, Any], *optional: str) -> dict[str, Any]:
    """The fields without those optional ones that are None."""
    return {name: value for name, value in data.items() if value is not None or name not in optional}


def reply_from(data: dict[str, Any]) -> Reply:
    """Inverse of :func:`completion_event`."""
    completions = tuple(
        Completion(
            item["text"], _tuple(item["tokens"]), item["finish"], item.get("logprob"),
            drafted=_tuple(item.get("drafted")), ends=_tuple(item.get("ends")), reasoning=item.get("reasoning"),
        )
        for item in data["completions"]
    )  # fmt: skip
    return Reply(completions, Usage(**data["usage"]))


def _tuple(numbers: list[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(numbers)


def scores_from(data: dict[str, Any]) -> Scores:
    """Inverse of :func:`scores_event`."""
    return Scores(tuple(data["logprobs"]), tuple(data["lengths"]), Usage(**data["usage"]))
