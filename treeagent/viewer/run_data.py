"""The data of one run for the page: its tree, the order of its growth, and every request with its reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..chat import Message, conversation
from ..errors import JournalError
from ..runtime.journal import ROUND, Event, recorded
from ..runtime.journal_tree import Rebuilt, rebuild
from ..thought import Thought

STEPS = ("thought", "judged", "dropped", "answer", "completion", "scores", "failed", "end", "visited")
"""Types of the events that the slider steps through; ``data.js`` depends on their order."""


@dataclass(frozen=True, slots=True)
class RunData:
    """One run, ready for the page."""

    name: str
    """The journal's file name."""
    rebuilt: Rebuilt
    requests: dict[str, dict[str, Any]]
    """Every answered request by id: the fields of its event, and ``t``, None when an earlier process asked it."""
    tree: dict[str, Any]
    """Data that the page reads at once, in columns because a tree may have ten thousand thoughts."""
    replies: dict[str, Any]
    """Prompts and replies, which the page reads on demand; equal lines are stored once."""


def run_data(events: Sequence[Event], name: str) -> RunData:
    """The run of a journal, complete or not. Raises JournalError when the events are inconsistent."""
    if not events:
        raise JournalError(f"{name}: there is nothing to view; the journal holds no whole line")
    attempts: list[list[Event]] = [[]]
    for event in events[1:]:
        if event.type == "resumed":
            attempts.append([])
        else:
            attempts[-1].append(event)
    shown = _furthest(attempts)
    rebuilt = rebuild([events[0], *attempts[shown]])
    try:
        _check(rebuilt.end)
        requests = _requests(events, attempts[shown])
        tree = {
            "name": name,
            "run": recorded(events),
            "notes": _notes(attempts, shown, rebuilt),
            "solution": [thought.id for thought in rebuilt.tree.lineage(rebuilt.solution)] if rebuilt.solution else [],
            "end": rebuilt.end,
            "failed": [event.data["error"] for event in attempts[shown] if event.type == "failed"],
            "thoughts": _thoughts(rebuilt),
            **_steps(attempts[shown], list(requests)),
            "rounds": _rounds(attempts[shown]),
            "early": _early(attempts[shown], rebuilt, list(requests)),
            "requests": [
                [data.get("role"), data["t"], data.get("seconds"), data.get("thought"), id]
                for id, data in requests.items()
            ],
        }
        return RunData(name, rebuilt, requests, tree, _replies(requests))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise JournalError(f"{name}: an event of the journal is damaged ({error!r} is missing or malformed)") from error


def _check(end: dict[str, Any] | None) -> None:
    """Raises KeyError or TypeError for an end that lacks a field which the page shows."""
    if end is not None:
        for name in ("answer", "solved", "ended", "seconds", "counts"):
            end[name]
        end["usage"]["calls"], end["usage"]["tokens"]


def _furthest(attempts: Sequence[Sequence[Event]]) -> int:
    """Index of the attempt to show: the last one if it is complete, else the one with the most thoughts."""
    if any(event.type == "end" for event in attempts[-1]):
        return len(attempts) - 1
    sizes = [sum(event.type == "thought" for event in attempt) for attempt in attempts]
    return max(range(len(attempts)), key=lambda index: (sizes[index], index))


def _notes(attempts: Sequence[Sequence[Event]], shown: int, rebuilt: Rebuilt) -> list[str]:
    notes = []
    if len(attempts) > 1:
        times = "once" if len(attempts) == 2 else f"{len(attempts) - 1} times"
        which = "the last part" if shown == len(attempts) - 1 else f"part {shown + 1}, which goes furthest"
        notes.append(f"The run was resumed {times}; this is {which}.")
    if rebuilt.end is None:
        notes.append("The journal has no end: the run is in progress or was cut off. The page shows the recorded part.")
    return notes


def _requests(events: Sequence[Event], shown: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """The answered requests of all attempts by id; ``t`` is known for those of the shown attempt."""
    current = {id(event) for event in shown}
    requests: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type in ("completion", "scores"):
            t = event.data.get("t") if id(event) in current else None
            requests.setdefault(event.data["id"], {**event.data, "t": t, "type": event.type})
    return requests


def _thoughts(rebuilt: Rebuilt) -> dict[str, list[Any]]:
    thoughts = list(rebuilt.tree)
    rank = ranks(thoughts)
    judged = [thought.judgement for thought in thoughts]
    return {
        "id": [thought.id for thought in thoughts],
        "parent": [thought.parent for thought in thoughts],
        "index": [thought.path[-1] if thought.path else 0 for thought in thoughts],
        "text": [thought.text for thought in thoughts],
        "state": [thought.state for thought in thoughts],
        "terminal": [int(thought.terminal) for thought in thoughts],
        "answer": [thought.answer for thought in thoughts],
        "request": [thought.request for thought in thoughts],
        "sample": [thought.sample for thought in thoughts],
        "judged": [int(judgement is not None) for judgement in judged],
        "value": [None if judgement is None else judgement.value for judgement in judged],
        "labels": [[] if judgement is None else list(judgement.labels) for judgement in judged],
        "unparsed": [0 if judgement is None else judgement.unparsed for judgement in judged],
        "rank": [rank.get(thought.id) for thought in thoughts],
    }


def ranks(thoughts: Sequence[Thought]) -> dict[int, float]:
    """Rank of each known value, from 0 (worst) to 1 (best), which suits any scale of values."""
    known = [(thought.id, thought.value) for thought in thoughts if thought.value is not None]
    values = sorted({value for _, value in known if not math.isnan(value)})
    place = {value: index / (len(values) - 1) if len(values) > 1 else 1.0 for index, value in enumerate(values)}
    return {id: place[value] for id, value in known if value in place}


def _steps(events: Sequence[Event], requests: Sequence[str]) -> dict[str, Any]:
    """The order of the events, the dropped pieces, and the requests of each judgement."""
    place = {id: index for index, id in enumerate(requests)}
    kind: list[int] = []
    at: list[int | None] = []
    t: list[float | None] = []
    dropped: list[list[Any]] = []
    requests_of: dict[int, list[int]] = {}
    visited: list[list[Any]] = []
    for event in events:
        if event.type not in STEPS:
            continue
        data = event.data
        what: int | None = None
        if event.type == "dropped":
            what = len(dropped)
            dropped.append([data["id"], data["index"], data["text"], data["why"]])
        elif event.type == "visited":
            what = len(visited)
            visited.append([data["ids"], data["visits"], data["means"]])
        elif event.type in ("completion", "scores"):
            what = place[data["id"]]
        elif event.type in ("thought", "judged", "answer"):
            what = data["id"]
        if event.type == "judged":
            requests_of[data["id"]] = [place[id] for id in data.get("requests") or () if id in place]
        kind.append(STEPS.index(event.type))
        at.append(what)
        t.append(data.get("t"))
    return {"steps": {"kind": kind, "at": at, "t": t}, "dropped": dropped, "asked": requests_of, "visited": visited}


def _early(events: Sequence[Event], rebuilt: Rebuilt, requests: Sequence[str]) -> list[list[Any]]:
    """Requests that were sent early: kind, hit, began, seconds, asked, known tokens, thought, request.

    The thought is None where none of the tree stands at the place, as with a guessed step that never came; the request
    is that of the search, None for a miss.
    """
    thoughts = {thought.place: thought.id for thought in rebuilt.tree}
    place = {id: index for index, id in enumerate(requests)}
    return [
        [
            data["kind"], data["hit"], data["began"], data["seconds"], data.get("asked"),
            (data.get("prompt_tokens") or 0) + (data.get("completion_tokens") or 0),
            thoughts.get(data.get("place") or ""), place.get(data["id"]),
        ]
        for data in (event.data for event in events if event.type == "early")
    ]  # fmt: skip


def _rounds(events: Sequence[Event]) -> dict[str, list[Any]]:
    """Rounds of the engine in columns, in order of time; ``model`` distinguishes two engines."""
    names = ("model", *ROUND)
    rows: list[tuple[Any, ...]] = []
    for event in events:
        if event.type == "rounds":
            columns = [event.data[name] for name in ROUND]
            if not all(type(value) in (int, float) and math.isfinite(value) for column in columns for value in column):
                raise ValueError("a round's figures are numbers")
            rows += [(event.data["model"], *row) for row in zip(*columns, strict=True)]
    rows.sort(key=lambda row: row[1])
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _replies(requests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    lines: dict[str, int] = {}

    def folded(text: str) -> list[int]:
        return [lines.setdefault(line, len(lines)) for line in text.split("\n")]

    replies = []
    for id, data in requests.items():
        reply: dict[str, Any] = {"id": id, "type": data["type"], "prompt": folded(_read(data))}
        reply["usage"] = data.get("usage")
        if data["type"] == "completion":
            reply["samples"] = [
                {
                    "pieces": [[folded(text), drafted] for text, drafted in pieces(sample)],
                    "tokens": sample.get("tokens"),
                    "drafted": sample.get("drafted"),
                    "finish": sample["finish"],
                    "reasoning": None if sample.get("reasoning") is None else folded(sample["reasoning"]),
                    "logprob": sample.get("logprob"),
                }
                for sample in data["completions"]
            ]
        else:
            names = data.get("continuations") or [None] * len(data["logprobs"])
            reply["scores"] = [list(row) for row in zip(names, data["logprobs"], data["lengths"], strict=False)]
        replies.append(reply)
    return {"requests": replies, "lines": list(lines)}


def _read(data: dict[str, Any]) -> str:
    """What the model read."""
    messages = [Message(message["role"], message["content"]) for message in data.get("messages", ())]
    return conversation(messages, data["prompt"])


def pieces(sample: dict[str, Any]) -> list[tuple[str, int]]:
    """A completion's text in runs of drafted tokens (1) and others (0); -1 where the backend does not report drafts."""
    text, drafted, ends = sample["text"], sample.get("drafted"), sample.get("ends")
    if drafted is None:
        return [(text, -1)]
    if not drafted or ends is None:
        return [(text, -1 if drafted else 0)]
    drafted_places, start = set(drafted), 0
    runs: list[tuple[str, int]] = []
    for place, end in enumerate([*ends, len(text)]):
        is_drafted = int(place in drafted_places)
        if runs and runs[-1][1] == is_drafted:
            runs[-1] = (runs[-1][0] + text[start:end], is_drafted)
        else:
            runs.append((text[start:end], is_drafted))
        start = max(start, end)
    return [(piece, is_drafted) for piece, is_drafted in runs if piece]
