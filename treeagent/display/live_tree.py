"""The growing tree on a terminal: the best paths, folded to what the window holds."""

from __future__ import annotations

import heapq
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .progress import Clock, Screen, short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..runtime.journal import Event


@dataclass(slots=True)
class Leaf:
    """A thought as far as events have told of it."""

    id: int
    parent: int | None
    text: str
    state: str
    depth: int
    judged: bool = False
    value: float | None = None
    """None where it is unjudged, or nothing could be read from the judgement."""
    labels: tuple[str, ...] = ()
    answer: str | None = None
    dropped: int = 0
    """Pieces of completions that did not become its children."""
    children: list[int] = field(default_factory=list)

    @property
    def rank(self) -> tuple[bool, float, int, int]:
        """What is shown first: an answer, then the best value, then the deepest, then the newest."""
        known = self.value is not None and not math.isnan(self.value)
        return (
            self.answer is not None,
            self.value if known and self.value is not None else -math.inf,
            self.depth,
            self.id,
        )


class TreeGrowth:
    """The tree, put together from a run's events."""

    def __init__(self, input: str = "") -> None:
        self.leaves = {0: Leaf(0, None, input, input, 0)}

    def feed(self, event: Event) -> None:
        """Add one event."""
        data = event.data
        if event.type in ("run", "resumed"):
            input = data.get("input", self.leaves[0].text)
            self.leaves = {0: Leaf(0, None, input, input, 0)}  # the story begins anew
        elif event.type == "thought":
            leaf = Leaf(data["id"], data["parent"], data["text"], data["state"], data["depth"])
            self.leaves[leaf.id] = leaf
            self.leaves[data["parent"]].children.append(leaf.id)
        elif event.type == "judged":
            leaf = self.leaves[data["id"]]
            leaf.judged, leaf.value, leaf.labels = True, data["value"], tuple(data["labels"])
        elif event.type == "dropped":
            self.leaves[data["id"]].dropped += 1
        elif event.type == "answer":
            self.leaves[data["id"]].answer = data["answer"]

    def shown(self, rows: int) -> set[int]:
        """Ids of the thoughts that ``rows`` lines have room for, with a line for each fold; the root always."""
        shown = {0}
        for leaf in heapq.nlargest(max(rows, 1), self.leaves.values(), key=lambda leaf: leaf.rank):
            wanted, at = set(shown), leaf
            while at.id not in wanted and at.parent is not None:
                wanted.add(at.id)
                at = self.leaves[at.parent]
            if len(wanted) + sum(self._folded(id, wanted) > 0 for id in wanted) <= rows:
                shown = wanted
        return shown

    def _folded(self, id: int, shown: set[int]) -> int:
        return sum(child not in shown for child in self.leaves[id].children)

    def lines(self, width: int, rows: int) -> list[Text]:
        """At most ``rows`` lines (one at least) of at most ``width`` characters."""
        shown = self.shown(rows)
        known = [leaf.value for leaf in self.leaves.values() if leaf.value is not None]
        best = max(known, default=None)
        lines: list[Text] = []
        waiting: list[tuple[int | None, str, str, int]] = [
            (0, "", "", 0)
        ]  # id, this line's guide, its children's, folded
        while waiting:
            id, guide, below, folded = waiting.pop()
            if id is None:
                lines.append(_text((f"{guide}+{folded} more", "dim"), width=width))
                continue
            lines.append(self._line(self.leaves[id], guide, best, width))
            kept = [child for child in self.leaves[id].children if child in shown]
            rest = self._folded(id, shown)
            entries: list[tuple[int | None, int]] = [(child, 0) for child in kept] + ([(None, rest)] if rest else [])
            for place, (child, count) in reversed(list(enumerate(entries))):
                last = place == len(entries) - 1
                waiting.append(
                    (child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}", count)
                )
        return lines[: max(rows, 1)]

    def _line(self, leaf: Leaf, guide: str, best: float | None, width: int) -> Text:
        parts = [(guide, "dim"), (short(leaf.text or leaf.state, 60), "bold" if leaf.answer is not None else "")]
        if leaf.state and leaf.state not in leaf.text:
            parts.append((f"  {short(leaf.state, 30)}", "dim"))
        if leaf.parent is not None:
            labels = short("/".join(dict.fromkeys(leaf.labels)), 24)
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
        if leaf.answer is not None:
            parts.append((f"  -> {short(leaf.answer, 40)}", "bold green"))
        return _text(*parts, width=width)


class LiveTree(Screen):
    """A live view with the tree below the numbers."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(console, *([] if clock is None else [clock]))
        self._growth = TreeGrowth()
        self._lock = threading.Lock()  # rich draws in a thread of its own

    def begin(self, stage: str) -> None:
        """A new stage: no tree yet."""
        with self._lock:
            super().begin(stage)
            self._growth = TreeGrowth()

    def event(self, event: Event) -> None:
        """Something happened in the run."""
        with self._lock:
            super().event(event)
            self._growth.feed(event)

    def draw(self) -> Text:
        """The numbers, and as much of the tree as fits below them."""
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
