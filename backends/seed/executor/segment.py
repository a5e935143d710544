"""A run or a small tree of new tokens after one context, as a pass computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kv_cache.pool import Slots
from ..kv_cache.radix_node import RadixNode

TRIANGLE = np.tri(32, dtype=np.bool_)
"""What the tokens of a chain see of each other."""


@dataclass(slots=True, eq=False)
class Segment:
    """New tokens after one context."""

    tokens: Sequence[int]
    slots: Slots
    """Slots for the keys and values of the new tokens (n,)."""
    context: Slots
    """Slots of everything before them; its length is the position of the first new token."""
    node: RadixNode
    """Deepest node of the prefix forest on the context's path."""
    parents: Sequence[int] | None = None
    """For a tree, the index of each token's parent (-1: none); None for a chain."""
    wanted: Sequence[int] = ()
    """Tokens whose logits are wanted, ascending."""
    mutual: bool = False
    """Whether all new tokens of a chain see one another, as those of a block that is denoised at once."""
    final: bool = False
    """Whether no text goes on from these tokens: no states are kept for them."""

    @property
    def size(self) -> tuple[int, int, int]:
        """Tokens of the context, new tokens, and those whose logits are wanted."""
        return len(self.context), len(self.tokens), len(self.wanted)

    @property
    def is_chain(self) -> bool:
        """Whether each token follows the one before it, and sees none after it."""
        chain = self.parents is None or all(parent == place - 1 for place, parent in enumerate(self.parents))
        return chain and not self.mutual

    def depths(self) -> list[int]:
        """Distance of each token from the context's end, 0 for the first."""
        if self.parents is None:
            return list(range(len(self.tokens)))
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def visible(self) -> NDArray[np.bool_]:
        """(n, n): True where a new token attends to another one: its ancestors and itself, or all of a block."""
        n = len(self.tokens)
        if self.mutual:
            return np.ones((n, n), dtype=np.bool_)
        if self.parents is None or self.is_chain:
            return TRIANGLE[:n, :n] if n <= len(TRIANGLE) else np.tri(n, dtype=np.bool_)
        seen = np.eye(n, dtype=np.bool_)
        for token, parent in enumerate(self.parents):
            if parent >= 0:
                seen[token] |= seen[parent]
        return seen
