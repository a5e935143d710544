"""Rebuilds the tree of a run from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import JournalError
from ..thought import Judgement, Thought, Tree
from .journal import Event


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
    tree = _root_of(header)
    end = None
    last: int | None = None
    try:
        for event in events[1:]:
            data = event.data
            if event.type == "resumed":  # the run begins again, with what the journal holds as a cache
                tree, last, end = _root_of(header), None, None
            elif event.type == "thought":
                # A journal has no state keys; duplicates were merged before it was written, so states will do.
                tree.add(Thought(key=data["state"], **{name: data[name] for name in _FIELDS}, path=tuple(data["path"])))
            elif event.type == "judged":
                judgement = Judgement(data["value"], tuple(data["labels"]), data["unparsed"])
                tree.update(tree[data["id"]], judgement=judgement)
            elif event.type == "answer":
                last = data["id"]
                tree.update(tree[last], answer=data["answer"])
            elif event.type == "end":
                end = data
    except (KeyError, TypeError) as error:
        raise JournalError(f"the journal's events do not fit together: {error!r} is missing or misformed") from error
    last = last if end is None else end["thought"]
    return Rebuilt(header, tree, None if last is None else tree[last], end)


def _root_of(header: dict[str, Any]) -> Tree:
    return Tree(Thought(0, None, "", header["input"], header["input"], 0))


_FIELDS = ("id", "parent", "text", "state", "depth", "terminal", "request", "sample")
