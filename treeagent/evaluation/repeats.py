"""Repeats of an evaluation with other seeds: pass@k and maj@k, with intervals over problems."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .outcomes import Outcome
from .statistics import percentile

_SUBSETS = 200
"""Most sets of k repeats over which a vote is averaged; where there are more, so many are drawn."""
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over problems with its 95 % interval (percentile bootstrap over problems, Efron 1979)."""

    value: float
    low: float
    high: float
    problems: int


@dataclass(frozen=True, slots=True)
class AtK:
    """What k tries of each problem give."""

    k: int
    passed: Mean
    """pass@k: the share of problems of which one of k tries is right (Chen et al. 2021, arXiv:2107.03374, equation 1:
    unbiased)."""
    voted: Mean
    """maj@k: the share of problems of which the most frequent answer of k tries is right, over all sets of k repeats;
    of equally frequent ones that of the earliest repeat counts."""


Try = tuple[str | None, bool]
"""The key of an answer, None without one, and its verdict."""


def at_each_k(repeats: Sequence[Sequence[Outcome]], key: Callable[[Outcome], str | None]) -> list[AtK]:
    """Figures for k from 1 to the number of repeats, over the problems with a verdict in every repeat.

    ``key`` gives equal texts for answers that are one in a vote. Empty where there is no such problem.
    """
    by_number = [
        {outcome.number: outcome for outcome in repeat if outcome.error is None and outcome.right is not None}
        for repeat in repeats
    ]
    common = sorted(set.intersection(*(set(known) for known in by_number))) if by_number else []
    if not common:
        return []
    problems = [[_try(known[number], key) for known in by_number] for number in common]
    return [
        AtK(
            k,
            mean([pass_at(len(tries), sum(right for _, right in tries), k) for tries in problems]),
            mean([vote_at(tries, k) for tries in problems]),
        )
        for k in range(1, len(repeats) + 1)
    ]


def _try(outcome: Outcome, key: Callable[[Outcome], str | None]) -> Try:
    return (None if outcome.answer is None else key(outcome)), bool(outcome.right)


def pass_at(n: int, right: int, k: int) -> float:
    """The chance that k of n tries, drawn without replacement, have one of the ``right`` ones among them."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def vote_at(tries: Sequence[Try], k: int) -> float:
    """The share of the sets of k tries whose most frequent answer is right."""
    if math.comb(len(tries), k) <= _SUBSETS:
        sets = list(itertools.combinations(range(len(tries)), k))
    else:
        draw = random.Random(k)
        sets = [tuple(sorted(draw.sample(range(len(tries)), k))) for _ in range(_SUBSETS)]
    return sum(_majority([tries[place] for place in places]) for places in sets) / len(sets)


def _majority(tries: Sequence[Try]) -> bool:
    votes = Counter(answer for answer, _ in tries if answer is not None)
    if not votes:
        return False
    winner = votes.most_common(1)[0][0]  # of equals the first
    return next(right for answer, right in tries if answer == winner)


def mean(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with the bootstrap interval of a fixed seed."""
    draw = random.Random(len(values))
    means = [math.fsum(draw.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLES)]
    low, high = percentile(means, 0.025), percentile(means, 0.975)
    middle = math.fsum(values) / len(values)
    return Mean(middle, middle if low is None else low, middle if high is None else high, len(values))
