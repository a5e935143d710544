"""Children of all nodes that grow at a level, whatever the shape of the drafts: how they are drawn and what they claim.

n nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from treeagent.backend import Sampling

from ....sampling.gumbel_top_k import top_draws_rows, warp_rows
from ....sampling.philox import DRAFT, PURPOSES, TEXT, Floats
from ...records import Draft, SequenceState

Law = NDArray[np.float64]
Child = tuple[int, float, "Law | None"]
"""Token, claim, and the law (V,) that the first of its siblings was drawn from."""

SHARPNESS = 0.6
"""Scale at which gaps between realised scores log q + g tell how sure a token is; 0.3 to 1.3 were fitted for good to
poor draft models, and the engine calibrates what is claimed."""
RIVALS = 16
"""Best tokens that a claim is weighed against."""


@dataclass(slots=True, eq=False)
class TreeBuilder:
    """One branch's draft in the making."""

    row: SequenceState
    levels: int
    """How deep it may become."""
    draft: Draft
    growing: list[int] = field(default_factory=lambda: [-1])
    """Frontier that get children next; -1 is the row's last token."""
    value: dict[int, float] = field(default_factory=lambda: {-1: 1.0})
    """Of every node the claimed probability that it is reached and accepted."""
    beam: dict[int, tuple[float, float]] = field(default_factory=lambda: {-1: (0.0, 0.0)})
    """Of every node of a stochastic beam its path's log-probability, plain and perturbed."""

    def add(self, token: int, parent: int, confidence: float, law: Law | None = None) -> int:
        """A child of ``parent``; its index."""
        draft, node = self.draft, len(self.draft)
        draft.tokens.append(token)
        draft.parents.append(parent)
        draft.confidence.append(confidence)
        if draft.law is not None and law is not None:
            draft.law.append(law)
        self.value[node] = self.value[parent] * confidence
        return node


class Frontier:
    """All nodes that grow at a level, of all sketches in order."""

    def __init__(self, sketches: Sequence[TreeBuilder], level: int) -> None:
        grown = [(sketch, parent) for sketch in sketches for parent in sketch.growing]
        self.level = level
        self.rows = [sketch.row for sketch, _ in grown]
        self.parents = [parent for _, parent in grown]
        self.beams = [sketch.beam.get(parent, (0.0, 0.0)) for sketch, parent in grown]

    def draw(
        self, scores: NDArray[np.float64], count: int, purpose: int, draws: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See :func:`top_draws_rows`: ids and sums (n, count) from warped scores (n, V)."""
        sampled = [row.sampling.temperature > 0 for row in self.rows]
        streams, positions = [row.stream for row in self.rows], [row.position + self.level for row in self.rows]
        return top_draws_rows(scores, sampled, streams, positions, count, purpose, draws)


def draft_stream(level: int) -> int:
    """Purpose of a draft's noise: a position that was drafted before, further down, is drafted with other noise."""
    return DRAFT + PURPOSES * level


def uncut(sampling: Sampling) -> Sampling:
    """Without top-k, top-p and min-p: a token that the target's own cut keeps must not be lost to the draft's."""
    return replace(sampling, top_k=None, top_p=None, min_p=None)


def warp_or_greedy(logits: Floats, rows: Sequence[SequenceState]) -> NDArray[np.float64]:
    """Warped scores (n, V); at temperature 0 the first of the most likely tokens alone."""
    scores = warp_rows(logits, [row.sampling for row in rows])
    greedy = [i for i, row in enumerate(rows) if not row.sampling.temperature]
    if greedy:
        best = logits[greedy].argmax(axis=1)
        scores[greedy] = -np.inf
        scores[greedy, best] = 0.0
    return scores


def uncut_scores(nodes: Frontier, logits: Floats) -> NDArray[np.float64]:
    """Logits (n, V) over the temperature of each node's row."""
    return warp_rows(logits, [uncut(row.sampling) for row in nodes.rows])


def coupled(
    nodes: Frontier, scores: NDArray[np.float64], width: int
) -> tuple[list[list[tuple[int, float]]], NDArray[np.int64], NDArray[np.float64]]:
    """Of every node the tokens that are best under the target's noise with their claims, as many as ``width`` at least
    where there are so many; and ids and realised scores (n, k) as :func:`top_draws_rows` gives them.
    """
    ids, found = nodes.draw(scores, max(width, RIVALS), TEXT)
    sharpness = np.array([SHARPNESS if row.sampling.temperature else 1.0 for row in nodes.rows])
    weights = np.exp((found - found[:, :1]) / sharpness[:, None])
    claims = (weights / weights.sum(axis=1, keepdims=True)).tolist()
    claimed = [
        [(token, claim) for token, claim in zip(own, chances, strict=True) if token >= 0]
        for own, chances in zip(ids.tolist(), claims, strict=True)
    ]
    return claimed, ids, found


def drawn_children(ids: NDArray[np.int64], laws: NDArray[np.float64]) -> list[list[Child]]:
    """Tokens (n, k) of n nodes with what their laws (n, V) say of them; -1 is none, and a token of probability 0, which
    has underflowed, is not proposed.
    """
    chances = np.take_along_axis(laws, np.maximum(ids, 0), axis=1)
    return [
        [(token, chance, law) for token, chance in zip(own, likely, strict=True) if token >= 0 and chance > 0]
        for own, likely, law in zip(ids.tolist(), chances.tolist(), laws, strict=True)
    ]
