"""What the page tells of one run: its tree, the order in which it grew, and every request with its reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import JournalError
from ..runtime.journal import ROUND, Event, recorded
from ..runtime.journal_tree import Rebuilt, rebuild
from ..thought import Thought

STEPS = ("thought", "judged", "dropped", "answer", "completion", "scores", "failed", "end")
"""Types of events that a search is stepped through by; ``data.js`` counts on their order."""


@dataclass(frozen=True, slots=True)
class RunData:
    """One run, ready for the page."""

    name: str
    """The journal's file name."""
    rebuilt: Rebuilt
    requests: dict[str, dict[str, Any]]
    """Every answered request by id: the fields of its event, and ``t``, None when an earlier process asked it."""
    tree: dict[str, Any]
    """What the page needs at once; columns, as a tree may have ten thousand thoughts."""
    replies: dict[str, Any]
    """Prompts and replies, which the page reads when somebody asks for them; equal lines are kept once."""


def story(events: Sequence[Event], name: str) -> RunData:
    """A run as far as its journal goes. Raises JournalError when its events do not fit together."""
    if not events:
        raise JournalError(f"{name}: there is nothing to view; the journal holds no whole line")
    tellings: list[list[Event]] = [[]]
    for event in events[1:]:
        if event.type == "resumed":
            tellings.append([])
        else:
            tellings[-1].append(event)
    told = _furthest(tellings)
    rebuilt = rebuild([events[0], *tellings[told]])
    try:
        _check(rebuilt.end)
        requests = _requests(events, tellings[told])
        tree = {
            "name": name,
            "run": recorded(events),
            "notes": _notes(tellings, told, rebuilt),
            "solution": [thought.id for thought in rebuilt.tree.lineage(rebuilt.solution)] if rebuilt.solution else [],
            "end": rebuilt.end,
            "failed": [event.data["error"] for event in tellings[told] if event.type == "failed"],
            "thoughts": _thoughts(rebuilt),
            **_steps(tellings[told], list(requests)),
            "rounds": _rounds(tellings[told]),
            "requests": [
                [data.get("role"), data["t"], data.get("seconds"), data.get("thought"), id]
                for id, data in requests.items()
            ],
        }
        return RunData(name, rebuilt, requests, tree, _replies(requests))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise JournalError(f"{name}: an event of the journal is damaged ({error!r} is missing or misformed)") from error


def _check(end: dict[str, Any] | None) -> None:
    """Raises KeyError or TypeError for an end that lacks what the page shows of it."""
    if end is not None:
        for name in ("answer", "solved", "ended", "seconds", "counts"):
            end[name]
        end["usage"]["calls"], end["usage"]["tokens"]


def _furthest(tellings: Sequence[Sequence[Event]]) -> int:
    """The telling to show: the last, or, where that was cut short, the one that tells of the most thoughts."""
    if any(event.type == "end" for event in tellings[-1]):
        return len(tellings) - 1
    grown = [sum(event.type == "thought" for event in telling) for telling in tellings]
    return max(range(len(tellings)), key=lambda index: (grown[index], index))


def _notes(tellings: Sequence[Sequence[Event]], told: int, rebuilt: Rebuilt) -> list[str]:
    notes = []
    if len(tellings) > 1:
        times = "once" if len(tellings) == 2 else f"{len(tellings) - 1} times"
        which = "the last telling" if told == len(tellings) - 1 else f"telling {told + 1}, which goes furthest"
        notes.append(f"The run was resumed {times}; this is {which}.")
    if rebuilt.end is None:
        notes.append("The journal has no end: the run is still going, or was cut off. It is shown as far as it goes.")
    return notes


def _requests(events: Sequence[Event], telling: Sequence[Event]) -> dict[str, dict[str, Any]]:
    now = {id(event) for event in telling}
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type in ("completion", "scores"):
            t = event.data.get("t") if id(event) in now else None
            found.setdefault(event.data["id"], {**event.data, "t": t, "type": event.type})
    return found


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
    """Place of each known value among all values, from 0 (worst) to 1 (best), so that any scale of values will do."""
    known = [(thought.id, thought.value) for thought in thoughts if thought.value is not None]
    values = sorted({value for _, value in known if not math.isnan(value)})
    place = {value: index / (len(values) - 1) if len(values) > 1 else 1.0 for index, value in enumerate(values)}
    return {id: place[value] for id, value in known if value in place}


def _steps(telling: Sequence[Event], requests: Sequence[str]) -> dict[str, Any]:
    """The order in which the search grew, the pieces that were dropped, and what each judgement rests on."""
    place = {id: index for index, id in enumerate(requests)}
    kind: list[int] = []
    at: list[int | None] = []
    t: list[float | None] = []
    dropped: list[list[Any]] = []
    asked: dict[int, list[int]] = {}
    for event in telling:
        if event.type not in STEPS:
            continue
        data = event.data
        what: int | None = None
        if event.type == "dropped":
            what = len(dropped)
            dropped.append([data["id"], data["index"], data["text"], data["why"]])
        elif event.type in ("completion", "scores"):
            what = place[data["id"]]
        elif event.type in ("thought", "judged", "answer"):
            what = data["id"]
        if event.type == "judged":
            asked[data["id"]] = [place[id] for id in data.get("requests") or () if id in place]
        kind.append(STEPS.index(event.type))
        at.append(what)
        t.append(data.get("t"))
    return {"steps": {"kind": kind, "at": at, "t": t}, "dropped": dropped, "asked": asked}


def _rounds(telling: Sequence[Event]) -> dict[str, list[Any]]:
    """Rounds of the engine in columns, in the order of time; ``model`` tells two engines apart."""
    names = ("model", *ROUND)
    rows: list[tuple[Any, ...]] = []
    for event in telling:
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

    told = []
    for id, data in requests.items():
        reply: dict[str, Any] = {"id": id, "type": data["type"], "prompt": folded(data["prompt"])}
        reply["usage"] = data.get("usage")
        if data["type"] == "completion":
            reply["samples"] = [
                {
                    "pieces": [[folded(text), drafted] for text, drafted in pieces(sample)],
                    "tokens": sample.get("tokens"),
                    "drafted": sample.get("drafted"),
                    "finish": sample["finish"],
                    "logprob": sample.get("logprob"),
                }
                for sample in data["completions"]
            ]
        else:
            names = data.get("continuations") or [None] * len(data["logprobs"])
            reply["scores"] = [list(row) for row in zip(names, data["logprobs"], data["lengths"], strict=False)]
        told.append(reply)
    return {"requests": told, "lines": list(lines)}


def pieces(sample: dict[str, Any]) -> list[tuple[str, int]]:
    """A completion's text in runs of tokens that a draft had guessed (1) or not (0); -1 where nobody tells."""
    text, drafted, ends = sample["text"], sample.get("drafted"), sample.get("ends")
    if drafted is None:
        return [(text, -1)]
    if not drafted or ends is None:
        return [(text, -1 if drafted else 0)]
    marked, start = set(drafted), 0
    found: list[tuple[str, int]] = []
    for place, end in enumerate([*ends, len(text)]):
        guessed = int(place in marked)
        if found and found[-1][1] == guessed:
            found[-1] = (found[-1][0] + text[start:end], guessed)
        else:
            found.append((text[start:end], guessed))
        start = max(start, end)
    return [(piece, guessed) for piece, guessed in found if piece]
