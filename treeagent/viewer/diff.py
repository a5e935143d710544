"""Differences of two runs: the first request with another reply, and the thoughts without a counterpart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..comparison.same_tree import CLOSE, Divergence, first_difference
from ..reply import Reply, Scores
from ..runtime.journal import reply_from, scores_from
from ..thought import Thought, Tree
from .run_data import RunData


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and its reply, read from a journal."""

    id: str
    name: str
    prompt: str
    reply: Reply | Scores


def diff(left: RunData, right: RunData) -> dict[str, Any]:
    """The differences that the page marks.

    ``twins``: pairs of thoughts with the same step after the same steps. ``left`` and ``right``: ids of thoughts that
    have no twin or another value. ``first``: the first difference in words (``what``) and the thought of each
    side where it occurs (None without one); ``first`` is None when both trees are equal.
    """
    twins = match_thoughts(left.rebuilt.tree, right.rebuilt.tree)
    differ = [(a, b) for a, b in twins.items() if not _same_value(left.rebuilt.tree[a], right.rebuilt.tree[b])]
    others = set(twins.values())
    only_left = {thought.id for thought in left.rebuilt.tree} - set(twins) | {a for a, _ in differ}
    only_right = {thought.id for thought in right.rebuilt.tree} - others | {b for _, b in differ}
    return {
        "twins": sorted(twins.items()),
        "left": sorted(only_left),
        "right": sorted(only_right),
        "first": _first_difference(left, right, twins, only_left, only_right),
    }


def match_thoughts(left: Tree, right: Tree) -> dict[int, int]:
    """Ids of the thoughts of two trees that have the same step after the same steps; the roots are always paired."""
    twins = {left.root.id: right.root.id}
    stack = [(left.root, right.root)]
    while stack:
        one, other = stack.pop()
        unmatched: dict[str, list[Thought]] = {}
        for child in right.children(other):
            unmatched.setdefault(child.text, []).append(child)
        for child in left.children(one):
            candidates = unmatched.get(child.text)
            if candidates:
                twin = next((candidate for candidate in candidates if candidate.path == child.path), candidates[0])
                candidates.remove(twin)
                twins[child.id] = twin.id
                stack.append((child, twin))
    return twins


def _same_value(left: Thought, right: Thought) -> bool:
    if left.value is None or right.value is None:
        return left.value is right.value and (left.judgement is None) == (right.judgement is None)
    return left.value == right.value or abs(left.value - right.value) <= CLOSE


def _first_difference(
    left: RunData, right: RunData, twins: dict[int, int], only_left: set[int], only_right: set[int]
) -> dict[str, Any] | None:
    if left.requests.keys() & right.requests.keys():
        difference = first_difference(_answered(left), _answered(right))
        if difference is not None and difference.what != "request":  # a request of one side has another cause
            where = _thought_of(left, difference.where)
            texts = {"left": _text(difference.expected), "right": _text(difference.got)}
            other = _thought_of(right, difference.where)
            return {"what": _describe(left, where, difference), "said": texts, "left": where, "right": other}
    a, b = min(only_left, default=None), min(only_right, default=None)
    if a is not None or b is not None:
        twin = twins.get(a) if a is not None else None
        if a is not None and twin is not None:
            values = f"{_value(left, a)} and {_value(right, twin)}"
            return {"what": f"the same step has different values: {values}", "left": a, "right": twin}
        return {"what": _describe_unmatched(left, a, right, b), "left": a, "right": b}
    ends = (left.rebuilt.end, right.rebuilt.end)
    answers = [None if end is None else end.get("answer") for end in ends]
    if None not in ends and answers[0] != answers[1]:
        return {"what": f"answers differ: {answers[0]!r} and {answers[1]!r}", "left": None, "right": None}
    return None


def _describe_unmatched(left: RunData, a: int | None, right: RunData, b: int | None) -> str:
    sides = [f"{run.rebuilt.tree[id].text!r} only in {run.name}"
             for run, id in ((left, a), (right, b)) if id is not None]  # fmt: skip
    return f"the trees differ: {', '.join(sides)}"


def _value(run: RunData, id: int) -> str:
    value = run.rebuilt.tree[id].value
    return "unknown" if value is None else f"{value:g}"


def _answered(run: RunData) -> list[AnsweredRequest]:
    return [
        AnsweredRequest(id, id, data["prompt"], reply_from(data) if data["type"] == "completion" else scores_from(data))
        for id, data in run.requests.items()
    ]


def _thought_of(run: RunData, id: str) -> int | None:
    """Id of the thought that a request expanded or judged; in older journals the parent of its first child."""
    place = run.requests[id].get("thought")
    if place is not None:
        return int(place)
    return next((thought.parent for thought in run.rebuilt.tree if thought.request == id), None)


def _describe(run: RunData, where: int | None, difference: Divergence) -> str:
    role = run.requests[difference.where].get("role") or "scores"
    thought = None if where is None else run.rebuilt.tree[where]
    place = "an unknown thought" if thought is None else repr(thought.text or thought.state)
    sample = "" if difference.sample is None else f", sample {difference.sample}"
    position = "" if difference.position is None else f", at position {difference.position}"
    return f"{role} at {place}{sample}: {difference.what} differ{position}"


def _text(side: Any) -> str:
    """One side of a difference as text."""
    return str(side["text"] if isinstance(side, dict) else side)
