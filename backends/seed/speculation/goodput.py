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
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..drafters.base import NOBODY, Draft, Others

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of rows that are measured."""
DRAFTED = (0, 1, 3, 7, 15)
"""Drafted nodes per row that are measured with each, up to ``LARGEST`` tokens in all."""
LARGEST = 128
REPEATS = 3
ENOUGH = 5.0
"""Seconds after which no more rows are measured: on a slow machine the rest follows from the last two."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one target pass by its rows and the drafted nodes among them; linear between what was measured."""

    rows: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]
    """For each number of rows, the seconds with each of the first of ``DRAFTED``; never falling either way."""

    @classmethod
    def measure(cls, run: Callable[[int, int], float]) -> CostTable:
        """``run(rows, drafted)`` makes a pass with so many nodes per row, and returns its seconds."""
        measured: list[list[float]] = []
        spent = 0.0
        run(1, 0)  # the first pass of a process is slow
        for rows in ROWS:
            line: list[float] = []
            for drafted in DRAFTED:
                if drafted > 1 and rows * (1 + drafted) > LARGEST:
                    break
                times = [run(rows, drafted) for _ in range(REPEATS)]
                spent += sum(times)
                line.append(min(times))  # the least is what the machine can do when nobody disturbs it
            measured.append(line)
            if spent > ENOUGH and len(measured) > 1:
                break
        seconds: list[tuple[float, ...]] = []
        for line in reversed(measured):  # whoever disturbs makes passes longer: a larger one that was shorter is right
            above = seconds[-1] if seconds else ()
            for place in reversed(range(len(line))):
                line[place] = min([line[place], *line[place + 1 : place + 2], *above[place : place + 1]])
            seconds.append(tuple(line))
        seconds.reverse()
        return cls(ROWS[: len(seconds)], tuple(seconds))

    def __call__(self, rows: float, nodes: float = 0.0) -> float:
        """Seconds of a pass of ``rows`` rows, one new token each, and ``nodes`` drafted nodes among them."""
        per_row = nodes / max(rows, 1.0)
        by_rows = [_between(DRAFTED[: len(line)], line, per_row) for line in self.seconds]
        return max(_between(self.rows, by_rows, rows), 1e-9)


def _between(at: Sequence[float], values: Sequence[float], x: float) -> float:
    """Linear interpolation, going on as it began and ended; ``at`` ascends."""
    if len(at) == 1:
        return values[0]
    i = min(max(bisect_right(at, x), 1), len(at) - 1)
    return values[i - 1] + (values[i] - values[i - 1]) * (x - at[i - 1]) / (at[i] - at[i - 1])


BINS = 12
FORGET = 0.995
"""Weight that evidence keeps per round, so that a drafter whose luck changes is found out."""
PRIOR = 6.0
"""Outcomes that a claim itself is worth."""
START = 0.7
"""Acceptance that an unknown drafter is credited with (Liu et al.)."""


TRIAL = 24
"""Rounds after which drafting is judged: an empty table needs some to learn."""
TOLERANCE = -0.02
"""Log ratio down to which drafting goes on: tables that are still empty must be allowed to learn."""
WORST = -0.15
"""Log ratio that a round counts at least: one in which a drafter reads new prompts says little about the others."""
BRIEF_TRIAL, LOST = 6, -0.08
"""Rounds after which drafting rests already when it costs as much as this: over a tiny model, whose passes take hardly
longer than a drafter's work."""
LONGEST = 4096
"""Rounds of the longest rest."""


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

    def acceptance(self, start: float = START) -> float:
        """How often claims have come true of late, over all; ``start`` is what is believed before."""
        return (sum(self.hits) + PRIOR * start) / (sum(self.trials) + PRIOR)

    @property
    def truth(self) -> float:
        """How many nodes of late were accepted for each that was claimed."""
        return (sum(self.hits) + PRIOR * START) / (sum(self.claimed) + PRIOR)

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


@dataclass(slots=True)
class Gate:
    """Whether drafting pays, its own time included: over a small model a table may cost more than it saves."""

    advantage: float = 0.0
    """Mean of late log ratios of tokens per second, with drafting over without."""
    _tried: int = 0
    resting: int = 0
    """Rounds until drafting is tried again."""
    _pause: int = 64

    def open(self) -> bool:
        """Whether to draft this round; after a bad time drafting rests for some rounds, longer each time."""
        self.resting = max(0, self.resting - 1)
        return self.resting == 0

    def learn(self, tokens: float, seconds: float, plain_tokens: float, plain_seconds: float) -> None:
        """What a round with drafting promises, and what it would be without."""
        self._tried += 1
        ratio = max(WORST, math.log(tokens / seconds * plain_seconds / plain_tokens))
        self.advantage += (ratio - self.advantage) / min(self._tried, TRIAL)
        tried = self._tried
        if (tried >= TRIAL and self.advantage < TOLERANCE) or (tried >= BRIEF_TRIAL and self.advantage < LOST):
            self.resting, self._pause = self._pause, min(2 * self._pause, LONGEST)
            self._tried, self.advantage = 0, 0.0


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
    others: Others = NOBODY,
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
