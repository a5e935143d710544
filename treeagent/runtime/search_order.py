"""Which of several searches goes first where a backend cannot run all their requests at once."""

from __future__ import annotations

from collections import deque
from statistics import fmean

from ..errors import ConfigError

ARRIVAL, SHORTEST = "arrival", "shortest"
"""In order of arrival, or those of the search first that is nearest to its end."""
_KNOWN = 256
"""Ended searches that are known."""


class SearchLengths:
    """How many requests the searches of an agent have made, from which follows how many others will still make.

    Shortest remaining time first (Schrage and Miller, 1966), with requests for time: what one takes is the backend's
    to know.
    """

    def __init__(self) -> None:
        self._totals: deque[int] = deque(maxlen=_KNOWN)

    @classmethod
    def of(cls, order: str) -> SearchLengths | None:
        """Of new searches; None for the order of arrival. Raises ConfigError."""
        if order not in (ARRIVAL, SHORTEST):
            raise ConfigError(f"order: expected {ARRIVAL!r} or {SHORTEST!r}, got {order!r}")
        return None if order == ARRIVAL else cls()

    def learn(self, requests: int) -> None:
        """A search has ended by itself after so many."""
        self._totals.append(requests)

    def remaining(self, made: int) -> float:
        """How many follow after so many: the mean of the searches that were longer.

        Below 0 where none was longer, and less for a search that has made more.
        """
        longer = [total - made for total in self._totals if total > made]
        return fmean(longer) if longer else -float(made)
