"""STAND (arXiv 2506.04708): the target's own distributions, averaged by the few tokens before them.

Thoughts about one question repeat each other. So every context of one to a few tokens stores the mean of the target's
distributions after it, the ten likeliest tokens of it: the k-th update has weight 1 / (k + 1), k from 0. The table
learns from every verified token, accepted or not, and all sequences share it. A guess uses the longest known context.

Distributions are stored at temperature 1 and converted, so that greedy and sampled sequences share them.

Departures: candidates are ranked with the target's own noise under coupled verification, where the paper draws noise of
its own and verifies by rejection; the tree grows by expected acceptance and measured times, where the paper's is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base import VerifiedDraft
from .base import LEAST_OTHER, NOTHING, Known, TableDrafter

ORDER = 5
"""Tokens of the longest context; in game-of-24 steps 3 are accepted less often (by 6 % of a draft), 6 hardly more."""
WIDTH = 10
"""Next tokens stored for a context, as in the paper."""
LEAST = 1e-3
"""Least probability of a stored token, but for the likeliest: most contexts then hold two or three tokens."""
KINDS = 3
"""Contexts of so many tokens and longer ones are calibrated together: the more kinds, the longer it takes."""
TINY = 1e-12
"""Odds that temperature makes less than this count as this, so that they have a logarithm."""

Entry = tuple[int, tuple[int, ...], tuple[float, ...]]
"""Number of updates; tokens, the likeliest first, and the sum of the probabilities that each was given. The garbage
collector does not revisit tuples of numbers."""


class StandDrafter(TableDrafter):
    """Drafts the likeliest tokens of the target's mean distribution after the last few tokens; see the module.

    ``contexts`` bounds the memory: so many make a generation, and at most two generations are held. When one is full
    the one before it is dropped, with all contexts that did not come again since.
    """

    name = "stand"
    order = ORDER
    top_k_wanted = WIDTH

    def __init__(self, *, coupled: bool, contexts: int = 1 << 16) -> None:
        super().__init__(coupled=coupled)
        self.contexts = contexts
        self._new: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def __len__(self) -> int:
        """How many contexts are held."""
        return len(self._new) + len(self._old)

    def look_up(self, text: str, temperature: float) -> Known:
        """See :class:`TableDrafter`; by the longest context that is known."""
        for size in range(len(text), 0, -1):
            entry = self._new.get(text[-size:]) or self._old.get(text[-size:])
            if entry is not None:
                count, tokens, sums = entry
                chances = [total / count for total in sums]
                return Known(
                    min(size, KINDS), tokens, chances if temperature in {0.0, 1.0} else _warmed(chances, temperature)
                )
        return NOTHING

    def store(self, verified: Sequence[VerifiedDraft]) -> None:
        """See :class:`TableDrafter`."""
        for each in verified:
            draft, texts = each.draft, [self.tail(each.row)]
            for token, parent in zip(draft.tokens, draft.parents, strict=True):
                texts.append((texts[parent + 1] + chr(token))[-ORDER:])
            for text, tokens, chances in zip(texts, each.best.tolist(), each.chances.tolist(), strict=True):
                if chances[0] > 0:  # of finite logits
                    size = max(1, sum(chance >= LEAST for chance in chances))
                    self._update(text, tuple(tokens[:size]), tuple(chances[:size]))

    def close(self) -> None:
        """See :class:`TableDrafter`."""
        super().close()
        self._new.clear()
        self._old.clear()

    def _update(self, text: str, tokens: tuple[int, ...], chances: tuple[float, ...]) -> None:
        """Count a distribution after every context that a text ends with."""
        first: Entry = (1, tokens, chances)
        for size in range(1, len(text) + 1):
            context = text[-size:]
            entry = self._new.get(context) or self._old.get(context)
            self._new[context] = first if entry is None else _added(entry, tokens, chances)
        if len(self._new) >= self.contexts:
            self._old, self._new = self._new, {}


def _added(entry: Entry, tokens: tuple[int, ...], chances: tuple[float, ...]) -> Entry:
    """The entry after one more update."""
    count, known, sums = entry
    mass = dict(zip(known, sums, strict=True))
    for token, chance in zip(tokens, chances, strict=True):
        mass[token] = mass.get(token, 0.0) + chance
    best = sorted(mass.items(), key=lambda item: -item[1])[:WIDTH]
    return count + 1, tuple(token for token, _ in best), tuple(total for _, total in best)


def _warmed(chances: Sequence[float], temperature: float) -> list[float]:
    """Probabilities (k,) at another temperature, the tokens that the table does not hold counting as one."""
    all_chances = (*chances, max(1 - sum(chances), LEAST_OTHER))
    most = max(all_chances)  # so that no power overflows
    odds = [chance / most for chance in all_chances]
    powers = [max(odd ** (1 / temperature), TINY) for odd in odds]
    total = sum(powers)
    return [power / total for power in powers[:-1]]
