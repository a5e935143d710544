"""A draft under construction, and the children of all nodes of a level: how they are drawn, with which confidence.

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

Distribution = NDArray[np.float64]
Child = tuple[int, float, "Distribution | None"]
"""Token, confidence, and the distribution (V,) that the first of its siblings was drawn from."""

SHARPNESS = 0.6
"""Scale at which gaps between realised scores log q + g give a confidence; 0.3 to 1.3 were fitted for good to poor
draft models, and the engine calibrates confidences."""
RIVALS = 16
"""Number of best tokens among which a confidence is normalised."""


@dataclass(slots=True, eq=False)
class TreeBuilder:
    """One sequence's draft under construction."""

    row: SequenceState
    levels: int
    """The most levels it gets."""
    draft: Draft
    frontier: list[int] = field(default_factory=lambda: [-1])
    """Nodes that get children next; -1 is the sequence's last token."""
    value: dict[int, float] = field(default_factory=lambda: {-1: 1.0})
    """For every node the estimated probability that it is reached and accepted."""
    beam: dict[int, tuple[float, float]] = field(default_factory=lambda: {-1: (0.0, 0.0)})
    """For every node of a stochastic beam its path's log-probability, plain and perturbed."""

    def add(
        self,
        token: int,
        parent: int,
        confidence: float,
        law: Distribution | None = None,
        scores: tuple[float, float] | None = None,
    ) -> int:
        """Add a child of ``parent`` and return its index.

        ``law`` (V,) is what the first of its siblings was drawn from; ``scores`` of a stochastic beam are its path's
        log-probabilities, plain and perturbed.
        """
        draft, node = self.draft, len(self.draft)
        draft.tokens.append(token)
        draft.parents.append(parent)
        draft.confidence.append(confidence)
        if draft.law is not None and law is not None:
            draft.law.append(law)
        if scores is not None:
            self.beam[node] = scores
        self.value[node] = self.value[parent] * confidence
        return node

    def take_frontier(self) -> list[int]:
        """Return the frontier and leave it empty."""
        frontier, self.frontier = self.frontier, []
        return frontier

    def advance(self, frontier: Sequence[int]) -> None:
        """Let these nodes get children next."""
        self.frontier = list(frontier)

    def extend_to(self, levels: int) -> None:
        """Set the most levels it gets."""
        self.levels = levels


class Frontier:
    """The n frontier nodes of all builders at one level, in order."""

    def __init__(self, builders: Sequence[TreeBuilder], level: int) -> None:
        nodes = [(builder, parent) for builder in builders for parent in builder.frontier]
        self.level = level
        self.rows = [builder.row for builder, _ in nodes]
        self.parents = [parent for _, parent in nodes]
        self.beams = [builder.beam.get(parent, (0.0, 0.0)) for builder, parent in nodes]

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
    """Warped scores (n, V) of logits (n, V); at temperature 0 the first of the most likely tokens alone."""
    scores = warp_rows(logits, [row.sampling for row in rows])
    greedy = [i for i, row in enumerate(rows) if not row.sampling.temperature]
    if greedy:
        best = logits[greedy].argmax(axis=1)
        scores[greedy] = -np.inf
        scores[greedy, best] = 0.0
    return scores


def uncut_scores(nodes: Frontier, logits: Floats) -> NDArray[np.float64]:
    """Logits (n, V) over the temperature of each node's sequence."""
    return warp_rows(logits, [uncut(row.sampling) for row in nodes.rows])


def coupled_children(
    nodes: Frontier, scores: NDArray[np.float64], width: int
) -> tuple[list[list[tuple[int, float]]], NDArray[np.int64], NDArray[np.float64]]:
    """For each of n nodes the best tokens under the target's noise, by scores (n, V), with their confidences.

    There are at least ``width`` a node where so many tokens are possible. Also returns ids and realised scores (n, k)
    as :func:`top_draws_rows` gives them.
    """
    ids, realised = nodes.draw(scores, max(width, RIVALS), TEXT)  # (n, k)
    sharpness = np.array([SHARPNESS if row.sampling.temperature else 1.0 for row in nodes.rows])
    weights = np.exp((realised - realised[:, :1]) / sharpness[:, None])
    confidences = (weights / weights.sum(axis=1, keepdims=True)).tolist()
    children = [
        [(token, confidence) for token, confidence in zip(tokens, row, strict=True) if token >= 0]
        for tokens, row in zip(ids.tolist(), confidences, strict=True)
    ]
    return children, ids, realised


def drawn_children(ids: NDArray[np.int64], laws: NDArray[np.float64]) -> list[list[Child]]:
    """For each of n nodes its drawn tokens (n, k), -1 for none, with their probability by its distribution (n, V).

    A token of probability 0, which has underflowed, is not proposed.
    """
    chances = np.take_along_axis(laws, np.maximum(ids, 0), axis=1)  # (n, k)
    return [
        [(token, chance, law) for token, chance in zip(tokens, row, strict=True) if token >= 0 and chance > 0]
        for tokens, row, law in zip(ids.tolist(), chances.tolist(), laws, strict=True)
    ]
