"""How many drafted tokens a round is worth: expected tokens per second decide (goodput, Liu et al., arXiv 2406.14066).

A round with R rows and k drafted nodes takes t(R, k) seconds, from a table measured once per model and machine, and is
expected to give R + sum of v_i tokens, v_i being the probability that node i is reached and accepted. The nodes of
highest v are taken as long as the ratio grows; a child never has a higher v than its parent, so what is taken is a
forest (OPT-Tree's argument, Wang et al., arXiv 2406.17276, over all branches at once). Zero nodes is a valid answer.

Drafters claim confidences; what their claims were worth is learnt from outcomes, so that a drafter that is never right
is soon not asked for more than it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..drafters.base import EMPTY_LOAD, RoundLoad
from ..executor.cost_table import CostTable
from ..records import Draft


def values(draft: Draft, worth: Callable[[float], float]) -> list[float]:
    """For each node the probability that it is reached and accepted."""
    reached: list[float] = []
    for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
        reached.append(worth(confidence) * (1.0 if parent < 0 else reached[parent]))
    return reached


def floor(cost: CostTable, rows: int, most: int) -> float:
    """The least value that a node may have and still pay, in a pass of ``rows`` rows."""
    plain = cost(rows)
    slopes = [(cost(rows, nodes) - plain) / nodes for nodes in (1, 2, 4, 8, 16, 32, 64) if nodes <= most]
    return min(slopes, default=math.inf) * rows / plain


def select(
    drafts: Sequence[Draft], worths: Sequence[list[float]], cost: CostTable, most: int | None = None
) -> list[Draft]:
    """The nodes whose verification yields the most tokens per second, ``most`` of them at most.

    ``drafts`` of all rows of a pass, ``worths`` the value of each of their nodes.
    """
    order = sorted(
        ((value, -node, i) for i, worth in enumerate(worths) for node, value in enumerate(worth)), reverse=True
    )[:most]
    rows = len(drafts)
    gain = float(rows)
    best, rate = 0, gain / cost(rows)
    for count, (value, _, _) in enumerate(order, start=1):
        gain += value
        if gain / cost(rows, count) > rate:
            best, rate = count, gain / cost(rows, count)
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
    """How deep a model should draft chains for ``rows`` rows: the most tokens per second, drafting included.

    Also how many times as many they are as without.
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
