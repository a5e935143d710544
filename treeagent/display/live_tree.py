"""The growing tree on a terminal: the best paths, folded to the size of the window."""

from __future__ import annotations

import heapq
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .progress import Clock, Screen
from .text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..runtime.journal import Event


@dataclass(slots=True)
class LiveThought:
    """A thought as the events so far describe it."""

    id: int
    parent: int | None
    text: str
    state: str
    depth: int
    judged: bool = False
    value: float | None = None
    """None where the thought is unjudged or its judgement is unreadable."""
    labels: tuple[str, ...] = ()
    answer: str | None = None
    dropped: int = 0
    """Pieces of completions that did not become its children."""
    early: int = 0
    """Its requests that were sent before the search asked for them."""
    in_vain: int = 0
    """Those that were sent for it and never asked for."""
    children: list[int] = field(default_factory=list)

    @property
    def rank(self) -> tuple[bool, float, int, int]:
        """Sort key: an answer first, then the best value, then the deepest, then the newest."""
        known = self.value is not None and not math.isnan(self.value)
        return (
            self.answer is not None,
            self.value if known and self.value is not None else -math.inf,
            self.depth,
            self.id,
        )


class TreeGrowth:
    """The tree of a run, built from its events."""

    def __init__(self, input: str = "") -> None:
        self.leaves = {0: LiveThought(0, None, input, input, 0)}
        self._at = {"root": 0}

    def feed(self, event: Event) -> None:
        """Add one event."""
        data = event.data
        if event.type in ("run", "resumed"):
            input = data.get("input", self.leaves[0].text)
            self.leaves = {0: LiveThought(0, None, input, input, 0)}  # a resumed run repeats its events
            self._at = {"root": 0}
        elif event.type == "thought":
            leaf = LiveThought(data["id"], data["parent"], data["text"], data["state"], data["depth"])
            self.leaves[leaf.id] = leaf
            self.leaves[data["parent"]].children.append(leaf.id)
            self._at[".".join(map(str, data.get("path", ())))] = leaf.id
        elif event.type == "judged":
            leaf = self.leaves[data["id"]]
            leaf.judged, leaf.value, leaf.labels = True, data["value"], tuple(data["labels"])
        elif event.type == "dropped":
            self.leaves[data["id"]].dropped += 1
        elif event.type == "answer":
            self.leaves[data["id"]].answer = data["answer"]
        elif event.type == "early" and data.get("place") in self._at:  # of a guessed step that never came there is none
            leaf = self.leaves[self._at[data["place"]]]
            leaf.early, leaf.in_vain = leaf.early + data["hit"], leaf.in_vain + (not data["hit"])

    def shown(self, rows: int) -> set[int]:
        """Ids of the thoughts that fit into ``rows`` lines with a line for each fold; the root is always shown."""
        shown = {0}
        for leaf in heapq.nlargest(max(rows, 1), self.leaves.values(), key=lambda leaf: leaf.rank):
            path, at = set(shown), leaf
            while at.id not in path and at.parent is not None:
                path.add(at.id)
                at = self.leaves[at.parent]
            if len(path) + sum(self._folded(id, path) > 0 for id in path) <= rows:
                shown = path
        return shown

    def _folded(self, id: int, shown: set[int]) -> int:
        return sum(child not in shown for child in self.leaves[id].children)

    def lines(self, width: int, rows: int) -> list[Text]:
        """At most ``rows`` lines (one at least) of at most ``width`` characters."""
        shown = self.shown(rows)
        known = [leaf.value for leaf in self.leaves.values() if leaf.value is not None]
        best = max(known, default=None)
        lines: list[Text] = []
        stack: list[tuple[int | None, str, str, int]] = [
            (0, "", "", 0)
        ]  # id, this line's guide, its children's, folded
        while stack:
            id, guide, below, folded = stack.pop()
            if id is None:
                lines.append(_text((f"{guide}+{folded} more", "dim"), width=width))
                continue
            lines.append(self._line(self.leaves[id], guide, best, width))
            visible = [child for child in self.leaves[id].children if child in shown]
            rest = self._folded(id, shown)
            entries: list[tuple[int | None, int]] = [(child, 0) for child in visible] + ([(None, rest)] if rest else [])
            for place, (child, count) in reversed(list(enumerate(entries))):
                last = place == len(entries) - 1
                stack.append((child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}", count))
        return lines[: max(rows, 1)]

    def _line(self, leaf: LiveThought, guide: str, best: float | None, width: int) -> Text:
        parts = [(guide, "dim"), (one_line(leaf.text or leaf.state, 60), "bold" if leaf.answer is not None else "")]
        if leaf.state and leaf.state not in leaf.text:
            parts.append((f"  {one_line(leaf.state, 30)}", "dim"))
        if leaf.parent is not None:
            labels = one_line("/".join(dict.fromkeys(leaf.labels)), 24)
            if not leaf.judged:
                parts.append(("  not judged", "dim"))
            elif leaf.value is None:
                parts.append(("  value unknown", "yellow"))
            else:
                parts.append((f"  {leaf.value:g}", "green" if leaf.value == best else ""))
            if labels:
                parts.append((f" {labels}", "dim"))
        if leaf.dropped:
            parts.append((f"  ({leaf.dropped} dropped)", "dim"))
        early = [f"{leaf.early} early"] * bool(leaf.early) + [f"{leaf.in_vain} in vain"] * bool(leaf.in_vain)
        if early:
            parts.append((f"  ({', '.join(early)})", "cyan"))
        if leaf.answer is not None:
            parts.append((f"  -> {one_line(leaf.answer, 40)}", "bold green"))
        return _text(*parts, width=width)


class LiveTree(Screen):
    """A live view with the tree below the counts."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(console, *([] if clock is None else [clock]))
        self._growth = TreeGrowth()
        self._lock = threading.Lock()  # rich draws in another thread

    def begin(self, stage: str) -> None:
        """Begin a stage with an empty tree."""
        with self._lock:
            super().begin(stage)
            self._growth = TreeGrowth()

    def event(self, event: Event) -> None:
        """Count an event of the run and add it to the tree."""
        with self._lock:
            super().event(event)
            self._growth.feed(event)

    def draw(self) -> Text:
        """The counts, and the part of the tree that fits below them."""
        with self._lock:
            view = super().draw()
            if len(self._growth.leaves) == 1:
                return view
            size = self._console.size
            room = size.height - 2 - sum(1 for line in view.plain.splitlines() if line)
            for line in self._growth.lines(size.width - 1, room) if room > 1 else ():
                view.append("\n").append_text(line)
            return view


def _text(*parts: tuple[str, str], width: int) -> Text:
    from rich.text import Text

    line = Text.assemble(*parts, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
