"""Token Recycling (Luo et al., arXiv 2408.08696): the target's best next tokens after each token, seen last time.

The logits after a rejected token are as good as those after an accepted one, and all are thrown away otherwise. They
give every token of the vocabulary a row of the eight likeliest next tokens; the latest logits overwrite what was there.
All branches share the table. It holds no probabilities: how often the token of each rank came is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..base import VerifiedDraft
from .base import NOTHING, Known, TableDrafter

WIDTH = 8
"""Next tokens that a token remembers, as in the paper."""
EXPECTED = (0.4, 0.1, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01)
"""How often the token of each rank is taken to come before any was seen."""
PRIOR = 16
"""Tokens that this is worth."""
MEMORY = 1024
"""Then older ones fade: the next search may be unlike this one."""
NONE = -1
"""In place of a token where nothing is known."""


class RecyclingDrafter(TableDrafter):
    """Drafts the target's own earlier second thoughts; see the module.

    The table takes 32 bytes a token of the vocabulary, up to the largest id that was seen.
    """

    name = "recycling"
    order = 1
    top_k_wanted = WIDTH

    def __init__(self, *, coupled: bool) -> None:
        super().__init__(coupled=coupled)
        self._next = np.full((0, WIDTH), NONE, dtype=np.int32)  # (largest id seen + 1 or more, 8)
        self._rates = {sampled: list(EXPECTED) for sampled in (False, True)}
        self._seen = dict.fromkeys((False, True), PRIOR)

    def __len__(self) -> int:
        """How many tokens have a row."""
        return int(np.count_nonzero(self._next[:, 0] != NONE))

    def look_up(self, text: str, temperature: float) -> Known:
        """See :class:`TableDrafter`."""
        tokens = self._row(ord(text[-1]))
        if not tokens:
            return NOTHING
        ranked = sorted(zip(self._rates[temperature > 0], tokens, strict=False), key=lambda pair: -pair[0])
        return Known(1, [token for _, token in ranked], [rate for rate, _ in ranked])

    def compare(self, text: str, temperature: float, token: int) -> None:
        """See :class:`TableDrafter`."""
        tokens = self._row(ord(text[-1]))
        if not tokens:
            return
        sampled = temperature > 0
        self._seen[sampled] = min(self._seen[sampled] + 1, MEMORY)
        rates = self._rates[sampled]
        for rank, candidate in enumerate(tokens):
            rates[rank] += ((candidate == token) - rates[rank]) / self._seen[sampled]

    def store(self, told: Sequence[VerifiedDraft]) -> None:
        """See :class:`TableDrafter`; of a token that was verified more than once the last logits count."""
        if not told:
            return
        tokens = np.array([token for verified in told for token in (verified.row.tokens[-1], *verified.draft.tokens)])
        best = np.concatenate([verified.best for verified in told])  # (n, 8), or all of a smaller vocabulary
        chances = np.concatenate([verified.chances for verified in told])
        sound = chances[:, 0] > 0  # logits that are not finite say nothing
        tokens, best = tokens[sound], np.where(chances > 0, best, NONE)[sound]
        if not len(tokens):
            return
        self._extend(max(int(tokens.max()), int(best.max())) + 1)
        self._next[tokens, : best.shape[1]] = best

    def close(self) -> None:
        """See :class:`TableDrafter`."""
        super().close()
        self._next = self._next[:0]

    def _row(self, token: int) -> list[int]:
        """What came after a token, the likeliest first; empty where nothing is known."""
        if token >= len(self._next):
            return []
        tokens: list[int] = self._next[token].tolist()
        return tokens[: tokens.index(NONE)] if tokens[-1] == NONE else tokens

    def _extend(self, size: int) -> None:
        """Make room for ids below ``size``."""
        if size > len(self._next):
            more = np.full((max(size, 2 * len(self._next)) - len(self._next), WIDTH), NONE, dtype=np.int32)
            self._next = np.concatenate((self._next, more))
