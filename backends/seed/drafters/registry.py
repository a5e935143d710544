"""Drafters by the names that users select them with, such as ``ngram``, ``rsd-s:3x4`` or ``stand+dynamic``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from treeagent.errors import ConfigError, did_you_mean

from .base import MOST_LEVELS, MOST_NODES
from .model.tree_shapes import BranchingTree, Chain, DynamicTree, Shape, StochasticBeam

TABLES = ("ngram", "recycling", "stand", "suffix", "merged")
"""What drafts without a model."""
LEARNS_FROM_TEXTS = ("ngram", "suffix", "merged")
"""Tables that learn from texts alone; the others need the target's logits."""
MODEL = ("model", "dynamic", "rsd-c", "rsd-s", "mcsd")
"""What a draft model can draft."""
NAMES = ("auto", "none", *TABLES, *MODEL, *(f"{table}+{name}" for table in TABLES for name in MODEL))
"""Every drafter, without numbers."""
NUMBERS = {"rsd-c": (2, 2), "rsd-s": (3, 2), "mcsd": (2, 2)}
"""Of fixed trees the numbers that are used when none are given."""


def size(name: str, numbers: Sequence[int]) -> tuple[int, int]:
    """Levels and nodes of a fixed tree; zeros for others."""
    if name == "rsd-s":
        width, depth = numbers
        return depth, width * depth
    return len(numbers), sum(accumulate(numbers, mul))


@dataclass(frozen=True, slots=True)
class DrafterSpec:
    """A drafter's name in parts. Raises ConfigError for one that does not exist."""

    table: str | None
    """The table that drafts; None without one."""
    model: str | None
    """What the draft model drafts; None without one."""
    numbers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, name: str) -> DrafterSpec:
        """Read a name; ``auto`` stands for something else and is not read."""
        words, colon, text = name.partition(":")
        if words not in NAMES:
            raise ConfigError(f"there is no drafter {words!r}.{did_you_mean(words, NAMES)}")
        first, _, last = words.rpartition("+")
        table = next((name for name in (first, last) if name in TABLES), None)
        model = last if last in MODEL else None
        numbers: tuple[int, ...] = NUMBERS.get(last, ())
        if colon:
            if not numbers:
                raise ConfigError(f"drafter {words!r} takes no numbers, not {text!r}. Write {words!r} alone.")
            form = "WIDTHxDEPTH, such as 3x4" if last == "rsd-s" else "the children of every level, such as 2x2x2"
            if not re.fullmatch(r"[1-9]\d?(x[1-9]\d?)*", text) or (last == "rsd-s" and text.count("x") != 1):
                raise ConfigError(f"drafter {words!r} takes {form}, not {text!r}")
            numbers = tuple(map(int, text.split("x")))
        levels, nodes = size(last, numbers)
        if levels > MOST_LEVELS or nodes > MOST_NODES:
            raise ConfigError(
                f"drafter {name!r} is a tree of {levels} levels and {nodes} nodes for every branch; at most "
                f"{MOST_LEVELS} levels and {MOST_NODES} nodes are of use. Give smaller numbers."
            )
        return cls(table, model, numbers)

    def shape(self, *, coupled: bool, most: int | None = None) -> Shape:
        """What the draft model's drafts look like, of which ``most`` nodes are verified. Raises ConfigError."""
        if self.model == "rsd-c":
            return BranchingTree(self.numbers, keeps_law=not coupled)
        if self.model == "rsd-s":
            return StochasticBeam(*self.numbers, keeps_law=not coupled)
        if self.model == "mcsd":
            if coupled:
                raise ConfigError(
                    "drafter 'mcsd' draws siblings with replacement, which coupled verification has no use for: "
                    "give verify=recursive, or take rsd-c"
                )
            return BranchingTree(self.numbers, keeps_law=True, replacement=True)
        return DynamicTree(coupled=coupled, most=most) if self.model == "dynamic" else Chain(keeps_law=not coupled)
