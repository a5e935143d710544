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
from dataclasses import dataclass, field, replace
from heapq import nlargest

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.backend import Sampling

from ...sampling import DRAFT, PURPOSES, TEXT, Floats, choose_rows, top_draws, warp
from . import Draft, Row

Law = NDArray[np.float64]

SHARPNESS = 0.6
"""Scale at which gaps between realised scores log q + g tell how sure a token is; 0.3 to 1.3 were fitted for good to
poor draft models, and the engine calibrates what is claimed."""
RIVALS = 16
"""Best tokens that a claim is weighed against."""
MOST_GROWING = 8
"""Nodes of one branch's dynamic tree that grow at a level (EAGLE-2's k, Li et al., arXiv 2406.16858)."""
MOST_CHILDREN = 4
"""Children of one node of a dynamic tree."""


@dataclass(slots=True, eq=False)
class Sketch:
    """One branch's draft in the making."""

    row: Row
    levels: int
    """How deep it may become."""
    draft: Draft
    growing: list[int] = field(default_factory=lambda: [-1])
    """Nodes that get children next; -1 is the row's last token."""
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


class Shape(ABC):
    """Which children a level gets."""

    name: str
    depth: int | None = None
    """Levels it has; None when it goes as deep as it pays."""
    keeps_law: bool = False
    """Whether drafts are draws of their own whose law is kept, as rejection sampling needs."""
    distinct: bool = True
    """Whether siblings are drawn without replacement."""

    def new(self, row: Row, levels: int) -> Sketch:
        """A draft without nodes."""
        return Sketch(row, levels, Draft(law=[] if self.keeps_law else None, distinct=self.distinct))

    def drawn(self, depth: int) -> int:
        """The most nodes of so many levels that must all be verified, as their law is kept; 0 if none must."""
        return self.nodes(depth) if self.keeps_law else 0

    def nodes(self, depth: int) -> int:
        """The most nodes of so many levels."""
        return depth

    @abstractmethod
    def grow(self, sketches: Sequence[Sketch], level: int, logits: Floats, floor: float) -> None:
        """Add a level and say what grows next; ``logits`` (n, V) of all growing nodes of all sketches, in order.

        Nodes of less value than ``floor`` cannot pay and are left out where the law allows it.
        """


class Chain(Shape):
    """One token after another (Leviathan et al., arXiv 2211.17192)."""

    name = "model"

    def __init__(self, *, keeps_law: bool) -> None:
        self.keeps_law = keeps_law

    def grow(self, sketches: Sequence[Sketch], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        chosen = self.choose([sketch.row for sketch in sketches], level, logits)
        for sketch, (token, confidence, law) in zip(sketches, chosen, strict=True):
            parent = sketch.growing[0]
            # The confidence is that of the law, so leaving the token out does not depend on which it is.
            worth = sketch.value[parent] * confidence >= floor
            sketch.growing = [sketch.add(token, parent, confidence, law)] if worth else []

    def choose(self, rows: Sequence[Row], level: int, logits: Floats) -> list[tuple[int, float, Law | None]]:
        """For each row a token, its confidence and, if kept, the law (V,) it was drawn from; logits (rows, V)."""
        streams, positions = [row.stream for row in rows], [row.position + level for row in rows]
        if self.keeps_law:
            tokens = choose_rows(logits, [row.sampling for row in rows], streams, positions, drawn(level))
            laws = [law_of(scores, row.sampling) for row, scores in zip(rows, logits, strict=True)]
            sure = [
                float(law.max()) if row.sampling.temperature else _softmax_at(scores, token)
                for row, law, scores, token in zip(rows, laws, logits, tokens.tolist(), strict=True)
            ]
            return list(zip(tokens.tolist(), sure, laws, strict=True))
        tokens = choose_rows(logits, [uncut(row.sampling) for row in rows], streams, positions, TEXT)
        temperature = torch.tensor([[row.sampling.temperature or 1.0] for row in rows])
        at = torch.from_numpy(tokens)[:, None]
        chances = (torch.from_numpy(logits) / temperature).softmax(dim=1).gather(1, at)[:, 0].tolist()
        return [(int(token), chance, None) for token, chance in zip(tokens, chances, strict=True)]


class Branching(Shape):
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

    def grow(self, sketches: Sequence[Sketch], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        place = 0
        for sketch in sketches:
            growing, sketch.growing = sketch.growing, []
            for parent in growing:
                found = self._siblings(sketch.row, level, parent, logits[place])
                place += 1
                for token, confidence, law in found:
                    if self.keeps_law or sketch.value[parent] * confidence >= floor:
                        sketch.growing.append(sketch.add(token, parent, confidence, law))

    def _siblings(self, row: Row, level: int, parent: int, logits: Floats) -> list[tuple[int, float, Law | None]]:
        """Children of a node, in the order they were drawn, with their claims and the law of the first."""
        width, at = self.widths[level], (row.stream, row.position + level)
        if not self.keeps_law:
            ids, scores = top_draws(logits, uncut(row.sampling), *at, max(width, RIVALS))
            return [(token, claim, None) for token, claim in _claims(ids, scores, row.sampling)[:width]]
        law, purpose = law_of(logits, row.sampling), drawn(level)
        if self.distinct:
            ids, _ = top_draws(logits, row.sampling, *at, width, purpose, draw=1 + parent)
        else:
            several = [width * (1 + parent) + i for i in range(width)]
            ids = np.concatenate([top_draws(logits, row.sampling, *at, 1, purpose, draw=i)[0] for i in several])
        return [(token, float(law[token]), law) for token in ids.tolist() if law[token] > 0]  # it may have underflowed


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

    def grow(self, sketches: Sequence[Sketch], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        place = 0
        for sketch in sketches:
            offered: list[tuple[float, int, int, float, float, Law | None]] = []
            for parent in sketch.growing:
                offered += self._offers(sketch, level, parent, logits[place])
                place += 1
            # Of one parent the kept ones are the first of its list: the cut looks at scores, not at tokens.
            kept = nlargest(self.width, offered, key=lambda offer: offer[0])
            sketch.growing = []
            for perturbed, token, parent, plain, confidence, law in kept:
                if self.keeps_law or sketch.value[parent] * confidence >= floor:
                    node = sketch.add(token, parent, confidence, law)
                    sketch.beam[node] = (plain, perturbed)
                    sketch.growing.append(node)

    def _offers(
        self, sketch: Sketch, level: int, parent: int, logits: Floats
    ) -> list[tuple[float, int, int, float, float, Law | None]]:
        """Per child: perturbed log-probability of its path, token, parent, plain log-probability, claim, law."""
        row, (plain, perturbed) = sketch.row, sketch.beam[parent]
        at = (row.stream, row.position + level)
        law = None
        if self.keeps_law:
            law = law_of(logits, row.sampling)
            ids, scores = top_draws(logits, row.sampling, *at, self.width, drawn(level), draw=1 + parent)
            claims = [(token, float(law[token])) for token in ids.tolist() if law[token] > 0]  # it may have underflowed
        else:
            ids, scores = top_draws(logits, uncut(row.sampling), *at, max(self.width, RIVALS))
            claims = _claims(ids, scores, row.sampling)[: self.width]
        temperature = row.sampling.temperature or 1.0
        scaled = logits.astype(np.float64) / temperature if law is None else warp_or_greedy(logits, row.sampling)
        norm = _log_sum_exp(scaled)
        noisy = plain + scores - norm  # (k,), descending: phi + log q + g
        conditioned = condition(noisy, perturbed) if row.sampling.temperature else noisy
        return [
            (float(conditioned[i]), token, parent, plain + float(scaled[token]) - norm, claim, law)
            for i, (token, claim) in enumerate(claims)
        ]


class Dynamic(Shape):
    """As wide and deep as claims are worth: the most valuable nodes of every level grow, children of little value are
    left out (OPT-Tree, Wang et al., arXiv 2406.17276; EAGLE-2, 2406.16858), and the engine's budget takes the best.
    """

    name = "dynamic"

    def __init__(self, *, coupled: bool, most: int | None = None) -> None:
        """``most`` nodes will be verified; None when their value decides."""
        self.coupled, self.most = coupled, most

    def grow(self, sketches: Sequence[Sketch], level: int, logits: Floats, floor: float) -> None:
        """See :class:`Shape`."""
        place = 0
        for sketch in sketches:
            new: list[int] = []
            for parent in sketch.growing:
                for token, confidence in self._candidates(sketch.row, level, logits[place]):
                    if sketch.value[parent] * confidence >= max(floor, 1e-3):
                        new.append(sketch.add(token, parent, confidence))
                place += 1
            sketch.growing = nlargest(MOST_GROWING, new, key=lambda node: sketch.value[node])
            if self.most is not None:  # what is worth less than the last that will be verified need not grow
                best = nlargest(self.most, (sketch.value[node] for node in range(len(sketch.draft))))
                if len(best) == self.most:
                    sketch.growing = [node for node in sketch.growing if sketch.value[node] > best[-1]]

    def _candidates(self, row: Row, level: int, logits: Floats) -> list[tuple[int, float]]:
        """Tokens and claims, the likeliest first."""
        if self.coupled:
            ids, scores = top_draws(logits, uncut(row.sampling), row.stream, row.position + level, RIVALS)
            return _claims(ids, scores, row.sampling)[:MOST_CHILDREN]
        ids, _ = top_draws(logits, Sampling(temperature=0.0), row.stream, row.position + level, MOST_CHILDREN)
        law = law_of(logits, row.sampling if row.sampling.temperature else Sampling(temperature=1.0))
        return [(token, float(law[token])) for token in ids.tolist() if law[token] > 0]


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


def drawn(level: int) -> int:
    """Purpose of a draft's noise: a position that was drafted before, further down, is drafted with other noise."""
    return DRAFT + PURPOSES * level


def uncut(sampling: Sampling) -> Sampling:
    """Without top-k, top-p and min-p: a token that the target's own cut keeps must not be lost to the draft's."""
    return replace(sampling, top_k=None, top_p=None, min_p=None)


def law_of(logits: Floats, sampling: Sampling) -> Law:
    """The warped softmax (V,) of one row of logits; a point mass at temperature 0."""
    scores = warp_or_greedy(logits, sampling)
    weights = np.exp(scores - scores.max())
    law: Law = weights / weights.sum()
    return law


def warp_or_greedy(logits: Floats, sampling: Sampling) -> NDArray[np.float64]:
    """Warped scores (V,); at temperature 0 the first of the most likely tokens alone."""
    if sampling.temperature:
        return warp(logits, sampling)
    scores = np.full(len(logits), -np.inf)
    scores[int(logits.argmax())] = 0.0
    return scores


def _claims(ids: NDArray[np.int64], scores: NDArray[np.float64], sampling: Sampling) -> list[tuple[int, float]]:
    """Tokens with the claimed probability that the target takes them, from their realised scores, best first."""
    weights = np.exp((scores - scores[0]) / (SHARPNESS if sampling.temperature else 1.0))
    return list(zip(ids.tolist(), (weights / weights.sum()).tolist(), strict=True))


def _softmax_at(logits: Floats, token: int) -> float:
    """Probability of one token."""
    return math.exp(float(logits[token]) - _log_sum_exp(logits.astype(np.float64)))


def _log_sum_exp(scores: NDArray[np.float64]) -> float:
    most = float(scores.max())
    return most + math.log(float(np.exp(scores - most).sum()))
