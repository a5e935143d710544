"""How many drafted tokens a round is worth: expected tokens per second decide (goodput, Liu et al., arXiv 2406.14066).

A round with R rows and k drafted nodes takes t(R + k) seconds, from a table measured once per model and machine, and is
expected to give R + sum of v_i tokens, v_i being the probability that node i is reached and accepted. The nodes of
highest v are taken as long as the ratio grows; a child never has a higher v than its parent, so what is taken is a
forest (OPT-Tree's argument, Wang et al., arXiv 2406.17276, over all branches at once). Zero nodes is a valid answer.

Drafters claim confidences; what their claims were worth is learnt from outcomes, so that a drafter that is never right
is soon not asked for more than it is worth.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .drafters import Draft

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
"""Numbers of new tokens that are measured; between them the table is linear, beyond them it goes on as it ended."""

REPEATS = 3
ENOUGH = 4.0
"""Seconds after which no larger size is measured: on a slow machine the rest follows from the last slope."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one target pass by its number of new tokens; never falls."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @classmethod
    def measure(cls, run: Callable[[int], float]) -> CostTable:
        """``run(tokens)`` makes one pass and returns its seconds; the least of a few repeats counts."""
        sizes: list[int] = []
        seconds: list[float] = []
        spent = 0.0
        run(SIZES[0])  # the first pass of a process is slow
        for size in SIZES:
            times = [run(size) for _ in range(REPEATS)]
            spent += sum(times)
            sizes.append(size)
            seconds.append(max(min(times), seconds[-1] if seconds else 0.0))
            if spent > ENOUGH and len(sizes) > 2:
                break
        return cls(tuple(sizes), tuple(seconds))

    def __call__(self, tokens: float) -> float:
        """Seconds of a pass over ``tokens`` new tokens."""
        at = min(max(bisect_right(self.sizes, tokens), 1), len(self.sizes) - 1)
        (low, high), (fast, slow) = self.sizes[at - 1 : at + 1], self.seconds[at - 1 : at + 1]
        return max(fast + (slow - fast) * (tokens - low) / (high - low), self.seconds[0])


BINS = 12
FORGET = 0.995
"""Weight that evidence keeps per round, so that a drafter whose luck changes is found out."""
PRIOR = 6.0
"""Outcomes that a claim itself is worth."""
START = 0.7
"""Acceptance that an unknown drafter is credited with (Liu et al.)."""


@dataclass(slots=True)
class Calibration:
    """What the claims of one drafter were worth: outcomes by claimed confidence, and over all."""

    hits: list[float] = field(default_factory=lambda: [0.0] * BINS)
    trials: list[float] = field(default_factory=lambda: [0.0] * BINS)
    claimed: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def worth(self, confidence: float) -> float:
        """The probability that a claim turns out right."""
        at = _bin(confidence)
        hits, claimed = sum(self.hits), sum(self.claimed)
        overall = min(1.0, (hits + PRIOR) / (claimed + PRIOR)) * confidence  # one bad drafter is bad at every claim
        return (self.hits[at] + PRIOR * overall) / (self.trials[at] + PRIOR)

    @property
    def acceptance(self) -> float:
        """How often claims have come true of late, over all."""
        return (sum(self.hits) + PRIOR * START) / (sum(self.trials) + PRIOR)

    def learn(self, outcomes: Sequence[tuple[float, bool]]) -> None:
        """Outcomes of one round: (claimed confidence, accepted) of every node whose parent was accepted."""
        for counts in (self.hits, self.trials, self.claimed):
            counts[:] = [count * FORGET for count in counts]
        for confidence, accepted in outcomes:
            at = _bin(confidence)
            self.hits[at] += accepted
            self.trials[at] += 1
            self.claimed[at] += confidence


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(max(confidence, 0.0) * BINS))


def values(draft: Draft, worth: Callable[[float], float]) -> list[float]:
    """For each node the probability that it is reached and accepted."""
    reached: list[float] = []
    for parent, confidence in zip(draft.parents, draft.confidence, strict=True):
        reached.append(worth(confidence) * (1.0 if parent < 0 else reached[parent]))
    return reached


def floor(cost: CostTable, base: int, rows: int, most: int) -> float:
    """The least value that a node may have and still pay, in a pass of ``rows`` rows with ``base`` tokens anyway."""
    plain = cost(base)
    slopes = [(cost(base + nodes) - plain) / nodes for nodes in (1, 2, 4, 8, 16, 32, 64) if nodes <= most]
    return min(slopes, default=math.inf) * rows / plain


def select(drafts: Sequence[Draft], worths: Sequence[list[float]], base: int, cost: CostTable) -> list[Draft]:
    """The nodes whose verification yields the most tokens per second.

    ``drafts`` of all rows of a pass, ``worths`` the value of each of their nodes, ``base`` the pass's other tokens.
    """
    order = sorted(
        ((value, -node, i) for i, worth in enumerate(worths) for node, value in enumerate(worth)), reverse=True
    )
    gain = float(len(drafts))
    best, rate = 0, gain / cost(base)
    for count, (value, _, _) in enumerate(order, start=1):
        gain += value
        if gain / cost(base + count) > rate:
            best, rate = count, gain / cost(base + count)
    taken: list[list[int]] = [[] for _ in drafts]
    for _, node, i in order[:best]:
        taken[i].append(-node)
    return [draft.keep(sorted(nodes)) for draft, nodes in zip(drafts, taken, strict=True)]


def best_depth(target: CostTable, draft: CostTable, acceptance: float, base: int, rows: int, most: int) -> int:
    """How deep a model should draft chains for ``rows`` rows: expected tokens per second, drafting included; 0 is none."""
    best, rate, tokens = 0, rows / target(base), 1.0
    for depth in range(1, most + 1):
        tokens += acceptance**depth
        seconds = target(base + rows * depth) + depth * draft(rows)
        if rows * tokens / seconds > rate:
            best, rate = depth, rows * tokens / seconds
    return best
