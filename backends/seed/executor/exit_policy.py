"""Which exits of a draft model are worth a look: to see whether a token is sure costs a product with the output head.

S2D (Kavehzadeh et al., arXiv 2407.01955) looks at every exit. Where the head is most of the draft model, as it is with
few layers and a large vocabulary, that takes longer than the layers it saves. So passes are timed, and an exit is
looked at if, by the shares of tokens that left lately, a token's whole way is shorter for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PRIOR, START = 8.0, 0.5
"""Tokens that an unknown share counts as, and the share: half leave."""
FORGET = 0.99
"""Weight that evidence keeps per pass."""
TRIAL = 64
"""Every so many passes all exits are looked at, or nothing would be learnt of those that are passed by."""


class ExitPolicy:
    """Chooses among a model's exits, and knows how long passes take by that choice."""

    def __init__(self, exits: Sequence[int], seconds: tuple[float, float] | None = None) -> None:
        """``exits`` in layers, ascending; ``seconds`` of passes that end at the first and at the last of them, those
        between lying on a line. None: all are looked at.
        """
        self._exits = exits
        self._sure, self._seen = [0.0] * len(exits), [0.0] * len(exits)
        self.looked: tuple[int, ...] = tuple(range(len(exits)))
        """Numbers, from 0, of exits that are looked at; the last is among them."""
        self.share = 1.0
        """Seconds of a token's way by that choice, where passes through all layers take 1; 1 where nothing is known."""
        self._look = self._layer = 0.0
        self._passes = 0
        self.weighs = seconds is not None and len(exits) > 1
        """Whether it chooses at all."""
        if seconds is not None and len(exits) > 1:
            self._layer = max(0.0, (seconds[1] - seconds[0]) / (exits[-1] - exits[0]))
            self._look = max(0.0, seconds[0] - exits[0] * self._layer)
            self._choose()

    def learn(self, number: int, sure: int, seen: int) -> None:
        """Of ``seen`` tokens that came to an exit ``sure`` left."""
        self._sure[number] += sure
        self._seen[number] += seen

    def passed(self) -> None:
        """A pass is over: choose anew."""
        if self.weighs:
            self._sure = [count * FORGET for count in self._sure]
            self._seen = [count * FORGET for count in self._seen]
            self._choose()
            self._passes += 1
            if self._passes % TRIAL == 0:
                self.looked = tuple(range(len(self._exits)))

    def _choose(self) -> None:
        """The shortest way from before the first layer, found from its end."""
        last = len(self._exits) - 1
        rest = [0.0] * len(self._exits)
        way: list[tuple[int, ...]] = [()] * len(self._exits)
        for number in range(last - 1, -2, -1):
            stay = 1.0 if number < 0 else 1 - self._leave(number)
            seconds, best = min(
                (self._stage(number, after) + rest[after], after) for after in range(number + 1, last + 1)
            )
            if number < 0:
                self.looked = (best, *way[best])
                self.share = seconds / self._stage(-1, last) if seconds else 1.0
            else:
                rest[number], way[number] = stay * seconds, (best, *way[best])

    def _leave(self, number: int) -> float:
        return (self._sure[number] + PRIOR * START) / (self._seen[number] + PRIOR)

    def _stage(self, number: int, after: int) -> float:
        """Seconds from one exit (-1: the beginning) to a later one, with a look there."""
        layers = self._exits[after] - (self._exits[number] if number >= 0 else 0)
        return self._look + layers * self._layer


def exits_of(config: Any) -> tuple[int, ...]:
    """Layers after which a model can be left; all of them alone when its configuration names none."""
    return tuple(getattr(config, "exits", None) or (config.num_hidden_layers,))
