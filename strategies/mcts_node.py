"""The statistics that Monte Carlo tree search keeps of a thought."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from treeagent import Thought


@dataclass(eq=False, slots=True)
class Node:
    """Statistics of a thought."""

    thought: Thought
    parent: Node | None
    tie: float
    """Random, drawn when the node is made: the seed alone breaks ties."""
    children: list[Node] | None = None
    """None until expanded."""
    due: bool = True
    """Whether it is to be expanded next: it was not expanded yet, or all below it was and more is wanted."""
    visits: int = 0
    rated: int = 0
    """Visits with a known value; an unparsed judgement does not count as 0."""
    total: float = 0.0
    """Sum of the known values."""
    pending: int = 0
    """Simulations under way through this node: the virtual loss."""
    closed: bool = False
    """Finished, or nothing left to expand below."""

    @property
    def mean(self) -> float:
        """Mean of the known values; below any value where none is known."""
        return self.total / self.rated if self.rated else -math.inf

    def upwards(self) -> Iterator[Node]:
        """This node and its ancestors."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def expand(self, children: list[Node]) -> None:
        """Its children are known, or further ones."""
        self.children = [*(self.children or []), *children]
        self.due = False

    def reopen(self) -> None:
        """Everything below is closed: expand it and each expanded node below once more."""
        if self.children is not None:
            self.closed, self.due = False, True
            for child in self.children:
                child.reopen()

    def rate(self, value: float) -> None:
        """Its own judgement is its first sample."""
        self.total, self.rated = value, 1

    def copied(self, parent: Node | None = None) -> Node:
        """A copy of this node and of all below it, to try things out."""
        node = replace(self, parent=parent)
        if self.children is not None:
            node.children = [child.copied(node) for child in self.children]
        return node

    def progress(self) -> float:
        """How far the best open thought at or below this node is below it: 0 for itself, then 1/2, 2/3 ..."""
        _, depth = max(self._open(), default=(0.0, self.thought.depth))
        below = depth - self.thought.depth
        return below / (below + 1)

    def _open(self) -> Iterator[tuple[float, int]]:
        """Value and depth of the thoughts to expand at or below this node."""
        if self.due and not self.closed:
            yield (-math.inf if self.thought.value is None else self.thought.value), self.thought.depth
        for child in self.children or ():
            yield from child._open()

    def find(self, id: int) -> Node | None:
        """The node of a thought at or below this one."""
        below = (node for child in self.children or () if (node := child.find(id)) is not None)
        return self if self.thought.id == id else next(below, None)
