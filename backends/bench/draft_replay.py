"""How long rounds with recorded drafts take, by the seconds of their parts: for fixed depths, and with hindsight.

A round of R rows takes a pass of the target over them and their drafted tokens and, of the drafter, a level for each
drafted token of the longest draft. A row gets what was right of its draft, and one more token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .draft_record import RecordedText


@dataclass(frozen=True, slots=True)
class RoundSeconds:
    """Seconds of the parts of a round."""

    target: Callable[[float, float], float]
    """Of the target's pass, by rows and drafted tokens."""
    level: Callable[[int, int], float]
    """Of a level of drafts, by its number from 0 on and the rows it is drafted for."""
    listening: float = 0.0
    """What the drafter takes of every pass of the target."""

    def of(self, depths: Sequence[int]) -> float:
        """Of a round in which so many tokens are drafted and verified for each row."""
        levels = range(max(depths, default=0))
        drafting = sum(self.level(level, sum(depth > level for depth in depths)) for level in levels)
        return self.target(len(depths), sum(depths)) + drafting + self.listening


Choice = Callable[[Sequence[int]], Sequence[int]]
"""How many tokens are drafted for each row, by how many would be right."""


def replay(texts: Sequence[RecordedText], seconds: RoundSeconds, choose: Choice) -> float:
    """Seconds of all rounds after the prompts, the texts together."""
    places = [-text.late for text in texts]
    total = 0.0
    while live := [i for i, text in enumerate(texts) if places[i] < len(text.right)]:
        right = [texts[i].right[places[i]] if places[i] >= 0 else 0 for i in live]
        room = [len(texts[i].right) - places[i] - 1 if places[i] >= 0 else 0 for i in live]
        depths = list(map(min, choose(right), room))
        total += seconds.of(depths)
        for i, own, depth in zip(live, right, depths, strict=True):
            places[i] += 1 + min(own, depth)
    return total


def fixed(depth: int) -> Choice:
    """As many tokens for every row."""
    return lambda right: [depth] * len(right)


def hindsight(seconds: RoundSeconds) -> Choice:
    """Only tokens that will be right, and of them the levels that give the most tokens per second."""

    def choose(right: Sequence[int]) -> Sequence[int]:
        options = [[min(own, depth) for own in right] for depth in range(max(right) + 1)]
        return max(options, key=lambda depths: (len(depths) + sum(depths)) / seconds.of(depths))

    return choose


def perfect(target: Callable[[float, float], float], rows: int, most: int) -> float:
    """The speed-up of the best depth up to ``most``, if all that is drafted were right and drafting took no time."""
    plain = target(rows, 0) / rows
    return max(plain * (1 + depth) * rows / target(rows, rows * depth) for depth in range(most + 1))
