"""Chooses how many drafted tokens a pass verifies, by expected tokens per second (goodput, arXiv 2406.14066).

A pass over R rows with k drafted nodes takes t(R, k) seconds, from a table measured once per model and machine, and is
expected to give R + sum of v_i tokens, v_i being the probability that node i is reached and accepted. The nodes of
highest v are taken as long as the ratio grows; a child never has a higher v than its parent, so what is taken is a
forest (OPT-Tree, Wang et al., arXiv 2406.17276, applied to all rows at once). Zero nodes is a valid result.

The probabilities are a drafter's confidences, corrected by the outcomes of verification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..drafters.base import EMPTY_LOAD, RoundLoad
from ..executor.cost_table import CostTable
from ..records import Draft


def values(draft: Draft, probability: Callable[[float], float]) -> list[float]:
    """For each node the probability that it is reached and accepted; ``probability`` of a node by its confidence."""
    reached: list[float] = []
    for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
        reached.append(probability(confidence) * (1.0 if parent < 0 else reached[parent]))
    return reached


def floor(cost: CostTable, rows: int, most: int) -> float:
    """The least value of a node that still raises tokens per second, in a pass over ``rows`` rows."""
    plain = cost(rows)
    slopes = [(cost(rows, nodes) - plain) / nodes for nodes in (1, 2, 4, 8, 16, 32, 64) if nodes <= most]
    return min(slopes, default=math.inf) * rows / plain


def select(
    drafts: Sequence[Draft],
    node_values: Sequence[list[float]],
    cost: CostTable,
    most: int | None = None,
    others: RoundLoad = EMPTY_LOAD,
) -> list[Draft]:
    """The parts of the drafts whose verification gives the most tokens per second, of ``most`` nodes at most in all.

    ``drafts`` of all rows of a pass but ``others``, whose nodes are verified in any case; ``node_values``: for each
    draft the value of each of its nodes.
    """
    order = sorted(
        ((value, -node, i) for i, own in enumerate(node_values) for node, value in enumerate(own)), reverse=True
    )[:most]
    rows = len(drafts) + others.rows
    gain = len(drafts) + others.tokens
    best, rate = 0, gain / cost(rows, others.nodes)
    for count, (value, _, _) in enumerate(order, start=1):
        gain += value
        if gain / cost(rows, others.nodes + count) > rate:
            best, rate = count, gain / cost(rows, others.nodes + count)
    taken: list[list[int]] = [[] for _ in drafts]
    for _, node, i in order[:best]:
        taken[i].append(-node)
    return [draft.keep(sorted(nodes)) for draft, nodes in zip(drafts, taken, strict=True)]


def best_chain(
    target: CostTable,
    draft: Callable[[float], float],
    acceptance: float,
    rows: int,
    most: int,
    others: RoundLoad = EMPTY_LOAD,
) -> tuple[int, float]:
    """The depth of chains for ``rows`` rows that gives the most tokens per second, drafting included.

    ``target`` and ``draft``: seconds of a pass of either model. ``acceptance``: rate of every drafted token. ``most``:
    the greatest depth. ``others``: rows of the same pass that are drafted for otherwise.
    Returns the depth, and its tokens per second as a multiple of those without drafts.
    """
    everyone = rows + others.rows
    plain = (rows + others.tokens) / target(everyone, others.nodes)
    best, rate, tokens = 0, plain, 1.0
    for depth in range(1, most + 1):
        tokens += acceptance**depth
        seconds = target(everyone, rows * depth + others.nodes) + depth * draft(rows)
        if (rows * tokens + others.tokens) / seconds > rate:
            best, rate = depth, (rows * tokens + others.tokens) / seconds
    return best, rate / plain
