"""Children of all growing nodes of a level, for every shape of draft: how they are drawn, and their confidence.

n nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from treeagent.request import Sampling

from ....sampling.gumbel_top_k import top_draws_among, top_draws_rows, warp_rows
from ....sampling.philox import DRAFT, PURPOSES, TEXT, Floats
from ...records import Draft, SequenceState

Law = NDArray[np.float64]
Child = tuple[int, float, "Law | None"]
"""Token, confidence, and the law (V,) that the first of its siblings was drawn from."""

SHARPNESS = 0.6
"""Scale of the gaps between realised scores log q + g that a confidence is computed from; fits gave 0.3 for good and
1.3 for poor draft models, and the engine calibrates the confidence."""
RIVALS = 16
"""Number of best tokens that a confidence is normalised over."""


@dataclass(slots=True, eq=False)
class TreeBuilder:
    """The draft of one sequence under construction."""

    row: SequenceState
    levels: int
    """The most levels."""
    draft: Draft
    growing: list[int] = field(default_factory=lambda: [-1])
    """Nodes that get children next; -1 is the last token of the sequence."""
    value: dict[int, float] = field(default_factory=lambda: {-1: 1.0})
    """For each node the estimated probability that it is accepted."""
    beam: dict[int, tuple[float, float]] = field(default_factory=lambda: {-1: (0.0, 0.0)})
    """For each node of a stochastic beam the log-probability of its path, plain and perturbed."""

    def limit_levels(self, levels: int) -> None:
        """Set how deep the draft may become."""
        self.levels = levels

    def grow_from(self, nodes: list[int]) -> None:
        """Set the nodes that get children next."""
        self.growing = nodes

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
    """All nodes that grow at a level, of all builders in order."""

    def __init__(self, builders: Sequence[TreeBuilder], level: int) -> None:
        grown = [(builder, parent) for builder in builders for parent in builder.growing]
        self.level = level
        self.rows = [builder.row for builder, _ in grown]
        self.parents = [parent for _, parent in grown]
        self.beams = [builder.beam.get(parent, (0.0, 0.0)) for builder, parent in grown]

    def draw(
        self, scores: NDArray[np.float64], count: int, purpose: int, draws: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See :func:`top_draws_rows`: ids and sums (n, count) from warped scores (n, V)."""
        sampled = [row.sampling.temperature > 0 for row in self.rows]
        streams, positions = [row.stream for row in self.rows], [row.position + self.level for row in self.rows]
        return top_draws_rows(scores, sampled, streams, positions, count, purpose, draws)

    def draw_among(
        self, scores: NDArray[np.float64], ids: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See :func:`top_draws_among`: with the target's noise, of the K ``ids`` with warped scores (n, K)."""
        sampled = [row.sampling.temperature > 0 for row in self.rows]
        streams, positions = [row.stream for row in self.rows], [row.position + self.level for row in self.rows]
        return top_draws_among(scores, ids, sampled, streams, positions, count)


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
    nodes: Frontier, scores: NDArray[np.float64], width: int, possible: NDArray[np.int64] | None = None
) -> tuple[list[list[tuple[int, float]]], NDArray[np.int64], NDArray[np.float64]]:
    """Of every node the tokens that are best under the target's noise with their claims, as many as ``width`` at least
    where there are so many; and ids and realised scores (n, k) as :func:`top_draws_rows` gives them.

    ``possible`` (n, K): the ids that have the ``scores``, where these are not of the whole vocabulary.
    """
    width = max(width, RIVALS)
    ids, found = nodes.draw(scores, width, TEXT) if possible is None else nodes.draw_among(scores, possible, width)
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
