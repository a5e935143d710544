"""Drafter with a head: the drafts of a draft model, from the target's states."""

from __future__ import annotations

from ..model.drafter import DraftPolicies
from ..model.prefix_drafter import PrefixDrafter
from ..model.tree_shapes import Shape
from .head_cache import HeadCache
from .head_runner import HeadRunner


class HeadDrafter(PrefixDrafter):
    """Drafts of a given shape by a head. It does not draft for beams."""

    def __init__(
        self,
        runner: HeadRunner,
        reader: HeadCache,
        vocabulary: int,
        shape: Shape,
        policies: DraftPolicies | None = None,
    ) -> None:
        """``reader`` reads sequences with the runner."""
        super().__init__(runner, reader, vocabulary, shape, None, policies)
