"""Rebuilds the tree of a run from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import JournalError
from ..thought import Judgement, Thought, Tree
from .events import Event
from .recorded_event import RecordedEvent


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A run, rebuilt from its journal."""

    header: dict[str, Any]
    """The event ``run``: input, seed, budget, settings."""
    tree: Tree
    solution: Thought | None
    """The thought whose path is the result; of a run that did not end, the last one with an answer."""
    end: dict[str, Any] | None
    """The result, as ``treeagent solve --json`` prints it; None when the run did not end."""

    @property
    def solved(self) -> bool | None:
        """The task's verdict on the answer; None when it could not tell or the run did not end."""
        return None if self.end is None else self.end["solved"]

    def to_json(self) -> dict[str, Any]:
        """The object that ``treeagent export --format json`` prints."""
        solution = [] if self.solution is None else [thought.id for thought in self.tree.lineage(self.solution)]
        return {"run": self.header, "thoughts": self.tree.to_json(), "solution": solution, "end": self.end}


def rebuild(events: Sequence[Event]) -> Rebuilt:
    """The tree and the result. Raises JournalError when the events do not fit together."""
    if not events:
        raise JournalError("the journal holds no whole line")
    header = events[0].data
    end: dict[str, Any] | None = None
    last: Thought | None = None
    event = events[0]
    try:
        tree = _root_of(header)
        for event in events[1:]:
            data = event.data
            if event.type == "resumed":  # the run begins again, with what the journal holds as a cache
                tree, last, end = _root_of(header), None, None
            elif event.type == "thought":
                _add(tree, data)
            elif event.type == "judged":
                judgement = Judgement(data["value"], tuple(data["labels"]), data["unparsed"])
                tree.update(_known(tree, data, "id"), judgement=judgement)
            elif event.type == "answer":
                last = tree.update(_known(tree, data, "id"), answer=data["answer"])
            elif event.type == "dropped":
                _known(tree, data, "id")
            elif event.type == "visited":
                for id in data["ids"]:
                    _known(tree, {"ids": id}, "ids")
            elif event.type == "end":
                end, last = data, None if data["thought"] is None else _known(tree, data, "thought")
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]}: is missing" if isinstance(error, KeyError) else error
        where = f"{event.place}: " if isinstance(event, RecordedEvent) and event.place else ""
        raise JournalError(f"{where}the journal's events do not fit together ({event.type}: {reason})") from error
    return Rebuilt(header, tree, last if last is None else tree[last.id], end)


def _root_of(header: dict[str, Any]) -> Tree:
    return Tree(Thought(0, None, "", header["input"], header["input"], 0))


def _known(tree: Tree, data: dict[str, Any], name: str) -> Thought:
    """The thought that a field names. Raises ValueError when it is not in the tree."""
    if not 0 <= data[name] < len(tree):
        raise ValueError(f"{name}: there is no thought {data[name]!r} before this line")
    return tree[data[name]]


def _add(tree: Tree, data: dict[str, Any]) -> None:
    """Add the thought of a line. Raises ValueError when it does not fit to those before it."""
    parent, path = _known(tree, data, "parent"), tuple(data["path"])
    if data["id"] != len(tree):
        raise ValueError(f"id: the next thought is {len(tree)}, not {data['id']!r}")
    if data["depth"] != parent.depth + 1 or path[:-1] != parent.path or len(path) != parent.depth + 1:
        raise ValueError(f"path, depth: they are not one step below those of the parent {parent.id}")
    # A journal has no state keys; duplicates were merged before it was written, so states will do.
    own = {name: data[name] for name in _FIELDS}
    tree.add(Thought(key=data["state"], **own, path=path, model=data.get("model")))


_FIELDS = ("id", "parent", "text", "state", "depth", "terminal", "request", "sample")
