"""The target's own noise, for drafters that weigh a few tokens at a time."""

from __future__ import annotations

import math

from ....sampling.philox import ROUNDS
from ...records import SequenceState

KEPT = 256
"""Values that are kept."""


class Noise:
    """:func:`treeagent.backends.sampling.philox.gumbel` of one stream, for one token at a time.

    A guess needs two or three values and the next guess depends on them, so there is nothing to batch: 5 us a value
    here, against 160 us for any call of the NumPy version.
    """

    MEAN = 0.5772  # Euler's constant

    def __init__(self, stream: int) -> None:
        self.keys = [
            (stream + i * 0x9E3779B9 & 0xFFFFFFFF, (stream >> 32) + i * 0xBB67AE85 & 0xFFFFFFFF) for i in range(ROUNDS)
        ]
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, position: int, token: int) -> float:
        """Noise of a token at a position; the latest values are kept, as tables ask for the same ones."""
        noise = self._known.get((position, token))
        if noise is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            noise = self._known[position, token] = self._value(position, token)
        return noise

    def _value(self, position: int, token: int) -> float:
        a, b, c, d = position, token >> 2, 0, 0
        for low, high in self.keys:
            first, second = a * 0xD2511F53, c * 0xCD9E8D57
            a, b, c, d = second >> 32 ^ b ^ low, second & 0xFFFFFFFF, first >> 32 ^ d ^ high, first & 0xFFFFFFFF
        return -math.log(-math.log(((a, b, c, d)[token & 3] + 0.5) * 2.0**-32))


def noise_of(row: SequenceState) -> Noise | None:
    """The noise of a sampled sequence; None for a greedy one."""
    return Noise(row.stream) if row.sampling.temperature > 0 else None
