"""How a model's draft grows, one level at a time: chains, trees drawn without and with replacement, dynamic trees.

Under coupled verification children are the best of log q + g with the target's own noise g, the draft's tail uncut
(the list law is RSD-C's; Daliri et al., arXiv 2408.07978). Under rejection they are draws with noise of their own, and
the law they were drawn from is kept; a dynamic tree proposes the likeliest tokens, which counts as a point mass each.
V vocabulary, n nodes that grow at a level.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from heapq import nlargest

import numpy as np
import torch
from numpy.typing import NDArray

from ....sampling.gumbel_top_k import softmax_rows, top_draws_rows, warp_rows
from ....sampling.philox import TEXT, Floats
from ....sampling.sampler import choose_rows
from ...kernels.log_probability import log_probabilities
from ...records import MODEL, Draft, SequenceState
from .tree_builder import (
    Child,
    Frontier,
    TreeBuilder,
    coupled,
    draft_stream,
    drawn_children,
    uncut,
    uncut_scores,
    warp_or_greedy,
)

MOST_GROWING = 8
"""Nodes of one dynamic tree that get children at a level (EAGLE-2's k, Li et al., arXiv 2406.16858)."""
MOST_CHILDREN = 4
"""Children of one node of a dynamic tree."""


class Shape(ABC):
    """Selects the children of each level."""

    name: str
    depth: int | None = None
    """Levels it has; None when it goes as deep as it pays."""
    keeps_law: bool = False
    """Whether drafts are draws of their own whose law is kept, as rejection sampling needs."""
    distinct: bool = True
    """Whether siblings are drawn without replacement."""

    def new(self, row: SequenceState, levels: int) -> TreeBuilder:
        """A draft without nodes."""
        return TreeBuilder(row, levels, Draft(law=[] if self.keeps_law else None, distinct=self.distinct, by=MODEL))

    def nodes_drawn(self, depth: int) -> int:
        """The most nodes of so many levels that must all be verified, as their law is kept; 0 if none must."""
        return self.nodes(depth) if self.keeps_law else 0

    def nodes(self, depth: int) -> int:
        """The most nodes of so many levels."""
        return depth

    @abstractmethod
    def grow(self, builders: Sequence[TreeBuilder], level: int, logits: Floats, floor: float) -> None:
        """Add a level and set the nodes that get children next; ``logits`` (n, V) of all growing nodes, in order.

        Nodes of less value than ``floor`` do not pay and are left out where the law allows it.
        """


class Chain(Shape):
    """One token after another (Leviathan et al., arXiv 2211.17192)."""

    name = "model"

    def __init__(self, *, keeps_law: bool) -> None:
        self.keeps_law = keeps_law

    def grow(self, builders: Sequence[TreeBuilder], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        chosen = self.choose([builder.row for builder in builders], level, logits)
        for builder, (token, confidence, law) in zip(builders, chosen, strict=True):
            parent = builder.growing[0]
            # The confidence is that of the law, so leaving the token out does not depend on which it is.
            worth = builder.value[parent] * confidence >= floor
            builder.grow_from([builder.add(token, parent, confidence, law)] if worth else [])

    def choose(self, rows: Sequence[SequenceState], level: int, logits: Floats) -> list[Child]:
        """For each row a token, its confidence and, if kept, the law (V,) it was drawn from; logits (rows, V)."""
        streams, positions = [row.stream for row in rows], [row.position + level for row in rows]
        if self.keeps_law:
            tokens = choose_rows(logits, [row.sampling for row in rows], streams, positions, draft_stream(level))
            laws = softmax_rows(warp_or_greedy(logits, rows))
            sure = [
                float(law.max()) if row.sampling.temperature else _softmax_at(scores, token)
                for row, law, scores, token in zip(rows, laws, logits, tokens.tolist(), strict=True)
            ]
            return list(zip(tokens.tolist(), sure, laws, strict=True))
        tokens = choose_rows(logits, [uncut(row.sampling) for row in rows], streams, positions, TEXT)
        return [
            (token, chance, None) for token, chance in zip(tokens.tolist(), _chances(logits, rows, tokens), strict=True)
        ]


class BranchingTree(Shape):
    """So many children for every node of a level: RSD-C, Gumbel-Top-k (Jeon et al., arXiv 2402.14160, section 3.2).

    With ``replacement`` siblings are independent draws and may be equal (the baseline of that paper, and MCSD's,
    arXiv 2401.06706).
    """

    def __init__(self, widths: Sequence[int], *, keeps_law: bool, replacement: bool = False) -> None:
        self.widths = tuple(widths)
        self.depth: int = len(self.widths)
        self.keeps_law = keeps_law
        self.distinct = not replacement
        self.name = f"{'mcsd' if replacement else 'rsd-c'}:{'x'.join(map(str, self.widths))}"

    def nodes(self, depth: int) -> int:
        """See :class:`Shape`."""
        return sum(math.prod(self.widths[: level + 1]) for level in range(min(depth, self.depth)))

    def grow(self, builders: Sequence[TreeBuilder], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        children = iter(self._siblings(Frontier(builders, level), logits))
        for builder in builders:
            growing: list[int] = []
            for parent in builder.growing:
                for token, confidence, law in next(children):
                    if self.keeps_law or builder.value[parent] * confidence >= floor:
                        growing.append(builder.add(token, parent, confidence, law))
            builder.grow_from(growing)

    def _siblings(self, nodes: Frontier, logits: Floats) -> list[list[Child]]:
        """Children of every node, in the order they were drawn, with their confidences and the law of the first."""
        width = self.widths[nodes.level]
        if not self.keeps_law:
            candidates, _, _ = coupled(nodes, uncut_scores(nodes, logits), width)
            return [[(*child, None) for child in own[:width]] for own in candidates]
        scores = warp_or_greedy(logits, nodes.rows)
        laws = softmax_rows(scores)
        if self.distinct:
            ids, _ = nodes.draw(scores, width, draft_stream(nodes.level), [1 + parent for parent in nodes.parents])
        else:
            several = [[width * (1 + parent) + i for parent in nodes.parents] for i in range(width)]
            ids = np.hstack([nodes.draw(scores, 1, draft_stream(nodes.level), draws)[0] for draws in several])
        return drawn_children(ids, laws)


class StochasticBeam(Shape):
    """RSD-S: the beam of ``width`` paths drawn without replacement (Jeon et al., section 3.3; Kool et al., 1903.06059).

    Unlikely branches end early, and the number of children adapts to every node.
    """

    def __init__(self, width: int, depth: int, *, keeps_law: bool) -> None:
        self.width = width
        self.depth: int = depth
        self.keeps_law = keeps_law
        self.name = f"rsd-s:{width}x{depth}"

    def nodes(self, depth: int) -> int:
        """See :class:`Shape`."""
        return self.width * min(depth, self.depth)

    def grow(self, builders: Sequence[TreeBuilder], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        nodes = Frontier(builders, level)
        offers = iter(self._offers(nodes, logits))
        for builder in builders:
            offered = [offer for _ in builder.growing for offer in next(offers)]
            # Of each parent the first children of its list are selected: by scores, independent of the tokens.
            best = nlargest(self.width, offered, key=lambda offer: offer[0])
            growing: list[int] = []
            for perturbed, parent, plain, (token, confidence, law) in best:
                if self.keeps_law or builder.value[parent] * confidence >= floor:
                    node = builder.add(token, parent, confidence, law)
                    builder.beam[node] = (plain, perturbed)
                    growing.append(node)
            builder.grow_from(growing)

    def _offers(self, nodes: Frontier, logits: Floats) -> list[list[tuple[float, int, float, Child]]]:
        """Children of every node: perturbed log-probability of the path, parent, plain log-probability, child."""
        if self.keeps_law:
            scaled = warp_or_greedy(logits, nodes.rows)
            ids, scores = nodes.draw(
                scaled, self.width, draft_stream(nodes.level), [1 + parent for parent in nodes.parents]
            )
            children = drawn_children(ids, softmax_rows(scaled))
        else:
            scaled = uncut_scores(nodes, logits)
            candidates, ids, scores = coupled(nodes, scaled, self.width)
            children = [[(*child, None) for child in own[: self.width]] for own in candidates]
        most = scaled.max(axis=1)
        sums = np.exp(scaled - most[:, None]).sum(axis=1)
        norms = [top + math.log(total) for top, total in zip(most.tolist(), sums.tolist(), strict=True)]
        offers = []
        for i, (row, own) in enumerate(zip(nodes.rows, children, strict=True)):
            plain, perturbed = nodes.beams[i]
            noisy = plain + scores[i][ids[i] >= 0] - norms[i]  # (k,), descending: phi + log q + g
            conditioned = condition(noisy, perturbed) if row.sampling.temperature else noisy
            offers.append(
                [
                    (float(conditioned[j]), nodes.parents[i], plain + float(scaled[i, child[0]]) - norms[i], child)
                    for j, child in enumerate(own)
                ]
            )
        return offers


class DynamicTree(Shape):
    """Width and depth follow the confidence: the most valuable nodes of every level get children, children of little
    value are left out (OPT-Tree, Wang et al., arXiv 2406.17276; EAGLE-2, 2406.16858), and the budget takes the best.
    """

    name = "dynamic"

    def __init__(self, *, coupled: bool, most: int | None = None) -> None:
        """``most`` nodes will be verified; None when their value decides."""
        self.coupled, self.most = coupled, most

    def grow(self, builders: Sequence[TreeBuilder], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        candidates = iter(self.candidates(Frontier(builders, level), logits, MOST_CHILDREN))
        for builder in builders:
            new: list[int] = []
            for parent in builder.growing:
                for token, confidence in next(candidates):
                    if builder.value[parent] * confidence >= max(floor, 1e-3):
                        new.append(builder.add(token, parent, confidence))
            growing = nlargest(MOST_GROWING, new, key=builder.value.__getitem__)
            if self.most is not None:  # nodes below the last one that will be verified get no children
                best = nlargest(self.most, (builder.value[node] for node in range(len(builder.draft))))
                if len(best) == self.most:
                    growing = [node for node in growing if builder.value[node] > best[-1]]
            builder.grow_from(growing)

    def candidates(
        self, nodes: Frontier, logits: Floats, count: int, possible: NDArray[np.int64] | None = None
    ) -> list[list[tuple[int, float]]]:
        """For every node ``count`` tokens and confidences at most, the likeliest first; logits (n, V).

        ``possible`` (n, K): the tokens that have the logits, where these are not of the whole vocabulary.
        """
        if self.coupled:
            candidates, _, _ = coupled(nodes, uncut_scores(nodes, logits), count, possible)
            return [own[:count] for own in candidates]
        none = [0] * len(nodes.rows)
        ids, _ = top_draws_rows(logits.astype(np.float64), [False] * len(none), none, none, count)
        laws = softmax_rows(warp_rows(logits, [row.sampling for row in nodes.rows]))
        children = [[(token, confidence) for token, confidence, _ in own] for own in drawn_children(ids, laws)]
        if possible is None:
            return children
        return [
            [(int(own[place]), confidence) for place, confidence in found]
            for own, found in zip(possible, children, strict=True)
        ]


def condition(scores: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Perturbed scores (k,), the largest first, given that their maximum is ``most`` (Kool et al., appendix B.3).

    ``scores`` holds the largest of all; the map keeps their order.
    """
    gap = np.maximum(scores[0] - scores[1:], 0.0)
    with np.errstate(divide="ignore"):
        log1mexp = np.where(gap < math.log(2), np.log(-np.expm1(-gap)), np.log1p(-np.exp(-gap)))
    v = most - scores[1:] + log1mexp
    rest = most - np.maximum(0.0, v) - np.log1p(np.exp(-np.abs(v)))
    conditioned: NDArray[np.float64] = np.concatenate(([most], rest))
    return conditioned


def _chances(logits: Floats, rows: Sequence[SequenceState], tokens: NDArray[np.int64]) -> list[float]:
    """The probability of a token (n,) by each row's logits (n, V) at its temperature."""
    scores, drawn = torch.from_numpy(logits), [row.sampling.temperature or 1.0 for row in rows]
    if set(drawn) != {1.0}:
        scores = scores / torch.tensor(drawn)[:, None]
    found = log_probabilities(scores, range(len(tokens)), tokens.tolist())
    if found is None:
        chances: list[float] = scores.softmax(dim=1).gather(1, torch.from_numpy(tokens)[:, None])[:, 0].tolist()
        return chances
    return [math.exp(each) for each in found]


def _softmax_at(logits: Floats, token: int) -> float:
    """Probability of one token."""
    return math.exp(float(logits[token]) - _log_sum_exp(logits.astype(np.float64)))


def _log_sum_exp(scores: NDArray[np.float64]) -> float:
    most = float(scores.max())
    return most + math.log(float(np.exp(scores - most).sum()))
