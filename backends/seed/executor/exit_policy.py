"""Choose which early exits to evaluate. Evaluating an exit costs one LM-head product.

S2D (Kavehzadeh et al., arXiv 2407.01955) evaluates every exit. With few layers and a large vocabulary the LM head is
most of the draft model, and evaluating an exit takes longer than the layers it saves. So passes are profiled, and the
policy minimises the expected time of a token given the recent share of tokens that take each exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PRIOR, START = 8.0, 0.5
"""Weight of the prior in tokens, and its exit rate: one half."""
FORGET = 0.99
"""Decay of the counts per pass."""
TRIAL = 64
"""Every so many passes all exits are evaluated, so that the rates of inactive exits are updated."""


class ExitPolicy:
    """The active exits of a draft model, and the expected cost of a pass with them."""

    def __init__(self, exits: Sequence[int], seconds: tuple[float, float] | None = None) -> None:
        """``exits`` in layers, ascending; ``seconds`` of passes that end at the first and at the last exit (linear in
        between). None: all exits are active.
        """
        self._exits = exits
        self._exited, self._reached = [0.0] * len(exits), [0.0] * len(exits)
        self.active_exits: tuple[int, ...] = tuple(range(len(exits)))
        """Indices of the exits that are evaluated; the last exit is among them."""
        self.relative_cost = 1.0
        """Expected time of a token as a share of the time through all layers; 1 where nothing is known."""
        self._head = self._layer = 0.0
        self._passes = 0
        self.weighs = seconds is not None and len(exits) > 1
        """Whether the choice follows measured times."""
        if seconds is not None and len(exits) > 1:
            self._layer = max(0.0, (seconds[1] - seconds[0]) / (exits[-1] - exits[0]))
            self._head = max(0.0, seconds[0] - exits[0] * self._layer)
            self._choose()

    def learn(self, number: int, exited: int, reached: int) -> None:
        """Record that ``exited`` of the ``reached`` tokens at an exit took it."""
        self._exited[number] += exited
        self._reached[number] += reached

    def end_pass(self) -> None:
        """Update the choice after a pass."""
        if self.weighs:
            self._exited = [count * FORGET for count in self._exited]
            self._reached = [count * FORGET for count in self._reached]
            self._choose()
            self._passes += 1
            if self._passes % TRIAL == 0:
                self.active_exits = tuple(range(len(self._exits)))

    def _choose(self) -> None:
        """Shortest path over exits by dynamic programming, from the last exit back to the first layer."""
        last = len(self._exits) - 1
        rest = [0.0] * len(self._exits)
        way: list[tuple[int, ...]] = [()] * len(self._exits)
        for number in range(last - 1, -2, -1):
            stay = 1.0 if number < 0 else 1 - self._exit_rate(number)
            seconds, best = min(
                (self._stage(number, after) + rest[after], after) for after in range(number + 1, last + 1)
            )
            if number < 0:
                self.active_exits = (best, *way[best])
                self.relative_cost = seconds / self._stage(-1, last) if seconds else 1.0
            else:
                rest[number], way[number] = stay * seconds, (best, *way[best])

    def _exit_rate(self, number: int) -> float:
        return (self._exited[number] + PRIOR * START) / (self._reached[number] + PRIOR)

    def _stage(self, number: int, after: int) -> float:
        """Seconds from one exit (-1: the first layer) to a later one, which is evaluated."""
        layers = self._exits[after] - (self._exits[number] if number >= 0 else 0)
        return self._head + layers * self._layer


def exits_of(config: Any) -> tuple[int, ...]:
    """Numbers of layers after which a model has an exit; without exits in its configuration, all layers."""
    return tuple(getattr(config, "exits", None) or (config.num_hidden_layers,))
