"""Chooses how many drafted tokens a pass verifies, by expected tokens per second (goodput, arXiv 2406.14066).

A pass over R rows with k drafted nodes takes t(R, k) seconds, as predicted by :mod:`..executor.pass_cost`, and is
expected to give R + sum of v_i tokens, v_i being the probability that node i is reached and accepted. The nodes of
highest v are taken as long as the ratio grows; a child never has a higher v than its parent, so what is taken is a
forest (OPT-Tree, Wang et al., arXiv 2406.17276, applied to all rows at once). Zero nodes is a valid result.

The probabilities are a drafter's confidences, corrected by the outcomes of verification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..drafters.base import EMPTY_LOAD, RoundLoad
from ..executor.pass_cost import PassCost
from ..records import Draft


def values(draft: Draft, probabilities: Callable[[Sequence[float]], list[float]], worth: float = 1.0) -> list[float]:
    """For each node the chance that it is reached and accepted, times the ``worth`` of a token.

    ``probabilities`` of nodes by their confidences.
    """
    reached: list[float] = []
    for parent, chance in zip(draft.parents, probabilities(draft.confidence), strict=True):
        reached.append(chance * worth if parent < 0 else chance * reached[parent])
    return reached


def floor(cost: PassCost, rows: int, most: int, drafting: float = 0.0, speedup: float = 1.0) -> float:
    """The least value of a node that still raises tokens per second, in a pass over ``rows`` rows.

    ``drafting``: seconds that proposing a node takes; ``speedup``: tokens per second as a multiple of those without
    drafts. A node must be worth the tokens that its seconds would give otherwise.
    """
    if most < 1:
        return math.inf
    return (cost.slope(rows, most) + drafting) * speedup * rows / cost(rows)


def select(
    drafts: Sequence[Draft],
    node_values: Sequence[list[float]],
    cost: PassCost,
    most: int | None = None,
    others: RoundLoad = EMPTY_LOAD,
) -> list[Draft]:
    """The parts of the drafts whose verification gives the most tokens per second, of ``most`` nodes at most in all.

    ``drafts`` of all rows of a pass but ``others``, whose nodes are verified in any case and whose seconds have passed;
    ``node_values``: for each draft the value of each of its nodes. The padding of a pass of fixed size is filled with
    the next best ones.
    """
    sizes = [len(own) for own in node_values]
    every = np.array([value for own in node_values for value in own])
    owner = np.repeat(np.arange(len(drafts)), sizes)
    node = np.concatenate([np.arange(size) for size in sizes]) if drafts else owner
    order = np.lexsort((-owner, node, -every))[:most]  # of equals parents stand first
    gains = len(drafts) + others.tokens + np.concatenate(([0.0], np.cumsum(every[order])))
    seconds = cost.each(len(drafts) + others.rows, others.nodes + np.arange(len(gains))) + others.seconds
    count = int(np.argmax(gains / seconds))
    base = len(drafts) + others.rows + others.nodes
    best = np.sort(order[: cost.padded(base + count) - base])  # the padding of a pass of fixed size is free
    nodes, ends = node[best].tolist(), np.searchsorted(owner[best], np.arange(len(drafts)), side="right").tolist()
    return [draft.keep(nodes[begin:end]) for draft, begin, end in zip(drafts, [0, *ends], ends, strict=False)]


def best_chain(
    target: PassCost,
    draft: Callable[[float], float],
    acceptance: float,
    rows: int,
    most: int,
    others: RoundLoad = EMPTY_LOAD,
    block: int | None = None,
) -> tuple[int, float]:
    """The depth of chains for ``rows`` rows that gives the most tokens per second, drafting included.

    ``target`` and ``draft``: seconds of a pass of either model. ``acceptance``: rate of every drafted token. ``most``:
    the greatest depth. ``others``: rows of the same pass that are drafted for otherwise. ``block``: tokens of a row
    that one draft pass computes to draft all levels; None: a pass with one token of a row for each level.
    Returns the depth, and its tokens per second as a multiple of those without drafts.
    """
    everyone, depths = rows + others.rows, np.arange(most + 1)
    tokens = rows * np.cumsum(float(acceptance) ** depths) + others.tokens
    drafting = depths * draft(rows) if block is None else (depths > 0) * draft(rows * block)
    seconds = target.each(everyone, rows * depths + others.nodes) + drafting
    rates = tokens / seconds
    best = int(np.argmax(rates))
    return best, float(rates[best] / rates[0])
