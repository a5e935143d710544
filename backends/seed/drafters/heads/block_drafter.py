"""Drafter with a head that fills blocks. A dynamic tree grows best-first from the laws of the places (DDTree).

A path's value is the product of what each place says of its token (arXiv 2604.12989): places are drafted at once, so
that the candidates of a place are the same below all nodes, and the best tree of any size costs one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...records import BeamGroup, SequenceState
from ..base import RoundLoad
from ..model.beam_tree import BeamGrowth
from ..model.drafter import DraftPolicies
from ..model.tree_builder import Frontier, TreeBuilder
from ..model.tree_shapes import DynamicTree, Shape
from ..tables.best_first import LEAST_FLOOR, best_first
from .block_cache import BlockCache
from .block_runner import BlockRunner
from .head_drafter import HeadDrafter

CANDIDATES = 8
"""Tokens of a place that a tree may have below one node."""


LIKELIEST = 512
"""Tokens of a place that noise can make candidates: of whole rows of a vocabulary of 150,000 the host draws 15 times as
long, and what is less likely seldom is the target's."""


@dataclass(slots=True)
class _Place:
    tokens: list[int]
    confidences: list[float]


class BlockDrafter(HeadDrafter):
    """Drafts of a given shape from blocks, by one pass for all sequences and levels."""

    def __init__(
        self, runner: BlockRunner, vocabulary: int, shape: Shape, policies: DraftPolicies | None = None
    ) -> None:
        self._blocks = BlockCache(runner)
        self._places = runner.places
        super().__init__(runner, self._blocks, vocabulary, shape, policies)

    def _levels(self, row: SequenceState, depth: int) -> int:
        return min(super()._levels(row, depth), self._places)

    def _grow(
        self,
        growing: list[TreeBuilder],
        growths: Mapping[BeamGroup, BeamGrowth],
        floor: float,
        rows: int,
        load: RoundLoad,
    ) -> None:
        """See :class:`ModelDrafter`."""
        if not isinstance(self.shape, DynamicTree):
            super()._grow(growing, growths, floor, rows, load)
            return
        for builder, places in zip(growing, self._candidates(growing, self.shape), strict=True):
            if places:
                draft = best_first(
                    places[0],
                    lambda _guess, _token, level, places=places: places[level],  # type: ignore[misc]
                    max(floor, LEAST_FLOOR),
                    min(builder.levels, len(places)),
                )
                for token, parent, confidence in zip(draft.tokens, draft.parents, draft.confidence, strict=True):
                    builder.add(token, parent, confidence)

    def _candidates(self, growing: Sequence[TreeBuilder], shape: DynamicTree) -> list[list[_Place]]:
        """For each sequence the candidates of its places, up to the first whose logits are not finite."""
        found: list[list[_Place]] = [[] for _ in growing]
        levels = max(builder.levels for builder in growing)
        laws = self._blocks.laws(growing)[:, :levels, : self.vocabulary]
        likeliest = laws.topk(min(LIKELIEST, laws.shape[2]))  # (n, levels, K)
        ids, values = likeliest.indices.cpu().numpy(), likeliest.values
        every = (values if values.dtype == torch.float64 else values.float()).cpu().numpy()
        for level in range(levels):
            logits = every[:, level]
            sound = [i for i, top in enumerate(logits[:, 0]) if np.isfinite(top) and len(found[i]) == level]
            if not sound:
                break
            nodes = Frontier([growing[i] for i in sound], level)
            for i, own in zip(
                sound, shape.candidates(nodes, logits[sound], CANDIDATES, ids[sound, level]), strict=True
            ):
                found[i].append(_Place([token for token, _ in own], [chance for _, chance in own]))
        return found
