"""What is taken in a tree: sibling indices, visits, and the keys of states."""

from __future__ import annotations

from ..thought import Thought


class TreePlaces:
    """Gives out the numbers that paths and keys of requests are made of, and knows which states there are."""

    def __init__(self, root: Thought) -> None:
        self._root = root.key
        self._keys: set[tuple[int | None, str]] = set()
        self._visits: dict[int, int] = {}
        self._siblings: dict[int, int] = {}

    def visits(self, thought: Thought) -> int:
        """How often a thought has been expanded."""
        return self._visits.get(thought.id, 0)

    def visit(self, thought: Thought, times: int = 1) -> int:
        """Count expansions of a thought; the number of those before."""
        before = self.visits(thought)
        self._visits[thought.id] = before + times
        return before

    def siblings(self, parent: Thought) -> int:
        """The sibling index of a parent's next child."""
        return self._siblings.get(parent.id, 0)

    def index(self, parent: Thought) -> int:
        """Take the sibling index of a parent's next child."""
        index = self.siblings(parent)
        self._siblings[parent.id] = index + 1
        return index

    def is_taken(self, key: str, branch: int | None) -> bool:
        """Whether a state is in the tree, or, where ``branch`` is a first sibling index, in that branch or the root."""
        return key == self._root or (branch, key) in self._keys

    def take(self, key: str, branch: int) -> None:
        """Note the state of a thought below a first step."""
        self._keys |= {(None, key), (branch, key)}
