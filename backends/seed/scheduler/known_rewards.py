"""The rewards that an engine has read, by the tokens up to their marks."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from ...local.reward_tokens import RewardTokens

MOST = 100_000
"""Rewards that are kept, the last used ones."""


class KnownRewards:
    """A path's earlier rewards are not read again with each step that is added to it."""

    def __init__(self) -> None:
        self._values: OrderedDict[bytes, float] = OrderedDict()

    def of(self, text: RewardTokens) -> list[float]:
        """The rewards of the first steps, as far as they are known."""
        known: list[float] = []
        for key in self._keys(text):
            if key not in self._values:
                break
            self._values.move_to_end(key)
            known.append(self._values[key])
        return known

    def learn(self, text: RewardTokens, rewards: Sequence[float]) -> None:
        """Keep the rewards of all steps."""
        self._values.update(zip(self._keys(text), rewards, strict=True))
        while len(self._values) > MOST:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

    @staticmethod
    def _keys(text: RewardTokens) -> list[bytes]:
        digest, keys, start = hashlib.blake2b(repr(text.columns).encode(), digest_size=16), [], 0
        for mark in text.marks:
            digest.update(array("q", text.tokens[start : mark + 1]).tobytes())
            start = mark + 1
            keys.append(digest.digest())
        return keys
