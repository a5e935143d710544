"""A node of the radix cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .pool import Slots


@dataclass(slots=True, eq=False)
class RadixNode:
    """A run of tokens that follows its parent's run."""

    tokens: list[int]
    slots: Slots
    parent: RadixNode | None
    start: int
    """Position of its first token."""
    computed: int = 0
    """Tokens of the run whose keys and values are in their slots."""
    ref_count: int = 0
    """Sequences that end here."""
    used: int = 0
    """When a sequence last began or ended here or below, in such events."""
    children: dict[int, RadixNode] = field(default_factory=dict)
    """By first token."""

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)

    @property
    def complete(self) -> bool:
        """Whether the keys and values of all its tokens are computed."""
        return self.computed == len(self.tokens)

    @property
    def is_own(self) -> bool:
        """Whether it is the computed leaf of one sequence, which may add tokens to the run."""
        return self.ref_count == 1 and not self.children and self.complete and self.parent is not None

    def grow(self, tokens: Sequence[int], slots: Slots) -> None:
        """Add computed tokens to a computed run, whose ``slots`` these are then, a part of a page table's array."""
        self.tokens += tokens
        self.slots = slots
        self.computed = len(self.tokens)

    def mark_computed(self, count: int) -> None:
        """Record that the next ``count`` tokens of the run were computed."""
        self.computed += count

    def path(self) -> list[RadixNode]:
        """The nodes from the first below the root down to this one."""
        nodes: list[RadixNode] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


def slots_of(path: Sequence[RadixNode]) -> Slots:
    """The slots of all tokens of some nodes."""
    return np.concatenate([node.slots for node in path]) if path else np.zeros(0, dtype=np.int64)
