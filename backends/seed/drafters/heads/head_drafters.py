"""The drafter of a head, by its kind."""

from __future__ import annotations

from ...executor.model_runner import ModelRunner
from ..model.drafter import DraftPolicies
from ..model.tree_shapes import Shape
from .block_drafter import BlockDrafter
from .block_runner import BlockRunner
from .head_drafter import HeadDrafter
from .layered_cache import LayeredCache
from .layered_runner import LayeredRunner
from .pair_cache import PairCache
from .pair_runner import PairRunner


def head_drafter(
    runner: ModelRunner, vocabulary: int, shape: Shape, policies: DraftPolicies | None
) -> HeadDrafter | None:
    """Drafts of a shape with the head of a runner; None for the runner of a draft model."""
    if isinstance(runner, LayeredRunner):
        return HeadDrafter(runner, LayeredCache(runner), vocabulary, shape, policies)
    if isinstance(runner, PairRunner):
        return HeadDrafter(runner, PairCache(runner), vocabulary, shape, policies)
    return BlockDrafter(runner, vocabulary, shape, policies) if isinstance(runner, BlockRunner) else None
