"""Where two runs part: the first request that was answered otherwise, and which thoughts have no counterpart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Reply, Scores
from ..comparison.same_tree import CLOSE, Divergence, first_difference
from ..runtime.journal import reply_from, scores_from
from ..thought import Thought, Tree
from .run_data import RunData


@dataclass(frozen=True, slots=True)
class Answered:
    """A request as a journal has it."""

    id: str
    name: str
    prompt: str
    reply: Reply | Scores


def parting(left: RunData, right: RunData) -> dict[str, Any]:
    """What the page marks.

    ``twins``: pairs of thoughts that are the same step after the same steps. ``left`` and ``right``: ids of thoughts
    without a twin, or judged otherwise. ``first``: the first difference in words (``what``) and the thoughts where it
    shows, None for a side that has none; None when both grew the same tree.
    """
    twins = matched(left.rebuilt.tree, right.rebuilt.tree)
    differ = [(a, b) for a, b in twins.items() if not _same_value(left.rebuilt.tree[a], right.rebuilt.tree[b])]
    others = set(twins.values())
    only_left = {thought.id for thought in left.rebuilt.tree} - set(twins) | {a for a, _ in differ}
    only_right = {thought.id for thought in right.rebuilt.tree} - others | {b for _, b in differ}
    return {
        "twins": sorted(twins.items()),
        "left": sorted(only_left),
        "right": sorted(only_right),
        "first": _first(left, right, twins, only_left, only_right),
    }


def matched(left: Tree, right: Tree) -> dict[int, int]:
    """Thoughts of two trees that are the same step after the same steps, by id; roots count as one another's."""
    twins = {left.root.id: right.root.id}
    waiting = [(left.root, right.root)]
    while waiting:
        one, other = waiting.pop()
        free: dict[str, list[Thought]] = {}
        for child in right.children(other):
            free.setdefault(child.text, []).append(child)
        for child in left.children(one):
            same = free.get(child.text)
            if same:
                twin = next((each for each in same if each.path == child.path), same[0])
                same.remove(twin)
                twins[child.id] = twin.id
                waiting.append((child, twin))
    return twins


def _same_value(left: Thought, right: Thought) -> bool:
    if left.value is None or right.value is None:
        return left.value is right.value and (left.judgement is None) == (right.judgement is None)
    return left.value == right.value or abs(left.value - right.value) <= CLOSE


def _first(
    left: RunData, right: RunData, twins: dict[int, int], only_left: set[int], only_right: set[int]
) -> dict[str, Any] | None:
    if left.requests.keys() & right.requests.keys():
        found = first_difference(_answered(left), _answered(right))
        if found is not None and found.what != "request":  # a request of one side alone follows from something else
            where = _where(left, found.where)
            said = {"left": _said(found.expected), "right": _said(found.got)}
            return {"what": _what(left, where, found), "said": said, "left": where, "right": _where(right, found.where)}
    a, b = min(only_left, default=None), min(only_right, default=None)
    if a is not None or b is not None:
        twin = twins.get(a) if a is not None else None
        if a is not None and twin is not None:
            values = f"{_value(left, a)} and {_value(right, twin)}"
            return {"what": f"the same step is judged otherwise: {values}", "left": a, "right": twin}
        return {"what": _only(left, a, right, b), "left": a, "right": b}
    ends = (left.rebuilt.end, right.rebuilt.end)
    answers = [None if end is None else end.get("answer") for end in ends]
    if None not in ends and answers[0] != answers[1]:
        return {"what": f"answers differ: {answers[0]!r} and {answers[1]!r}", "left": None, "right": None}
    return None


def _only(left: RunData, a: int | None, right: RunData, b: int | None) -> str:
    sides = [f"{story.rebuilt.tree[id].text!r} in {story.name} alone"
             for story, id in ((left, a), (right, b)) if id is not None]  # fmt: skip
    return f"the trees part: {', '.join(sides)}"


def _value(story: RunData, id: int) -> str:
    value = story.rebuilt.tree[id].value
    return "unknown" if value is None else f"{value:g}"


def _answered(story: RunData) -> list[Answered]:
    return [
        Answered(id, id, data["prompt"], reply_from(data) if data["type"] == "completion" else scores_from(data))
        for id, data in story.requests.items()
    ]


def _where(story: RunData, id: str) -> int | None:
    """The thought where a request was asked; for journals that do not tell, the one that it gave the first step to."""
    asked = story.requests[id].get("thought")
    if asked is not None:
        return int(asked)
    return next((thought.parent for thought in story.rebuilt.tree if thought.request == id), None)


def _what(story: RunData, where: int | None, found: Divergence) -> str:
    role = story.requests[found.where].get("role") or "scores"
    thought = None if where is None else story.rebuilt.tree[where]
    place = "an unknown thought" if thought is None else repr(thought.text or thought.state)
    sample = "" if found.sample is None else f", sample {found.sample}"
    position = "" if found.position is None else f", at position {found.position}"
    return f"{role} at {place}{sample}: {found.what} differ{position}"


def _said(found: Any) -> str:
    """Either side of a difference, as text."""
    return str(found["text"] if isinstance(found, dict) else found)
