"""The tree of a problem in few bytes: its most telling thoughts, without prompts and replies."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TreeagentError
from ..runtime.journal import read
from ..runtime.journal_tree import Rebuilt, rebuild
from ..thought import Thought
from .bounded_text import bounded, size_of

TEXT = 100
"""Most bytes of a step."""
ROW = 40
"""Bytes of a row without its texts."""


def outline(journal: Path, room: int) -> dict[str, Any]:
    """The tree of a journal in at most ``room`` bytes of JSON, ``{"error": ...}`` for a journal that cannot be read.

    ``rows`` has for each thought shown its parent's place among them (None for the root), its step, value, answer, and
    whether it is on the answer's path; ``count`` is the number of all thoughts, ``hidden`` those left out below each.
    """
    try:
        rebuilt = rebuild(read(journal))
    except TreeagentError as error:
        return {"error": bounded(f"{journal.name}: {error}", max(room, 40))}
    path = [] if rebuilt.solution is None else rebuilt.tree.lineage(rebuilt.solution)
    most = max(20, min(TEXT, room // (len(path) + 1) - ROW))
    shown = _shown(rebuilt, path, room, most)
    place = {id: number for number, id in enumerate(sorted(shown))}
    children = [rebuilt.tree.children(rebuilt.tree[id]) for id in place]
    return {
        "rows": [_row(rebuilt.tree[id], place, shown[id], most) for id in place],
        "count": len(rebuilt.tree) - 1,
        "hidden": [sum(child.id not in shown for child in each) for each in children],
    }


def _row(thought: Thought, place: Mapping[int, int], on_path: bool, most: int) -> list[Any]:
    parent = None if thought.parent is None else place[thought.parent]
    value = thought.value if thought.value is not None and math.isfinite(thought.value) else None
    answer = None if thought.answer is None else bounded(thought.answer, most)
    return [parent, bounded(thought.text or thought.state, most), value, answer, int(on_path)]


def _shown(rebuilt: Rebuilt, path: Sequence[Thought], room: int, most: int) -> dict[int, bool]:
    """Ids of the thoughts that fit, and whether each is on the answer's path: that one first, then the best values."""
    tree = rebuilt.tree
    shown = {tree.root.id: bool(path), **{thought.id: True for thought in path}}
    left = room - sum(_cost(tree[id], most) for id in shown)
    for thought in heapq.nlargest(max(1, room // ROW), tree, key=_rank):
        chain, at = [], thought
        while at.id not in shown and at.parent is not None:
            chain.append(at)
            at = tree[at.parent]
        cost = sum(_cost(each, most) for each in chain)
        if cost <= left:
            left -= cost
            shown |= {each.id: False for each in chain}
    return shown


def _cost(thought: Thought, most: int) -> int:
    """Bytes of a thought's row, at most."""
    answer = 0 if thought.answer is None else min(most, size_of(thought.answer))
    return min(most, size_of(thought.text or thought.state)) + answer + ROW


def _rank(thought: Thought) -> tuple[bool, float, int, int]:
    value = thought.value
    known = value is not None and math.isfinite(value)
    return thought.answer is not None, value if known and value is not None else -math.inf, thought.depth, -thought.id
