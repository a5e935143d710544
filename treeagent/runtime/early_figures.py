"""Figures of early requests: how many the search asked for later, what the others cost, and how likely a kind is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..reply import Usage

AUTOMATIC = 8
"""The most early requests that run at a time where the user names no number."""
LEAST = 0.02
"""Least chance of a request that is sent early; whether one pays beside others is decided by the backend."""
PRIORS = {"judgement": 0.95, "later": 0.6, "child": 0.7, "piece": 0.5, "sibling": 0.25, "next": 0.3, "answer": 0.6}
"""Kinds of early requests, with the chance that one is asked for, before anything is known.

``judgement``: of a thought that is read ahead from a reply that the search has asked for. ``later``: of one that is
read from an early reply. ``child``: expansion of the thought that the search would expand after the running ones.
``piece``: the same, of a thought that is read ahead. ``sibling``: expansion of the one after that. ``next``: of a
thought that was known before. ``answer``: of a finished thought."""
PYTHON = 0.001
"""Seconds of Python that an early request takes without its task: 0.6 ms of computing alone (game24 on a simulated
engine), and more beside an engine's thread."""
_WEIGHT = 100.0
"""How many tokens a prior counts as."""
USUAL = {True: 30, False: 10}
"""Tokens that a hit and a miss are taken to have written where none was sent."""


class Chances:
    """How much of what early requests of a kind write is asked for later, learnt from search to search.

    A miss that is given up after two tokens has cost less than a hit of thirty has saved, so each counts by what it
    wrote. That is the chance that a row of the kind is of use in a pass, by which an engine weighs it.
    """

    def __init__(self) -> None:
        self._hits: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def __getitem__(self, kind: str) -> float:
        """From 0 to 1."""
        return (self._hits[kind] + _WEIGHT * PRIORS[kind]) / (self._all[kind] + _WEIGHT)

    def learn(self, kind: str, *, hit: bool, written: int | None = None) -> None:
        """Count one more, which has written so many tokens; None: it was not sent, and would have written as usual."""
        written = USUAL[hit] if written is None else written
        self._hits[kind] += (1 + written) * hit
        self._all[kind] += 1 + written


class PythonSeconds:
    """What one early request costs in this process: to choose, send, read and count it, and the task's own part.

    The first part is known. The second, to write the prompt and to read the steps, is measured by every search, also by
    one that sends nothing early.
    """

    def __init__(self) -> None:
        self._task: float | None = None

    @property
    def each(self) -> float:
        """Seconds of one request."""
        return PYTHON + (self._task or 0.0)

    def learn(self, seconds: float, prompts: int) -> None:
        """A search has spent so many seconds in its task, for so many prompts."""
        if prompts:
            each = seconds / prompts
            self._task = each if self._task is None else (self._task + each) / 2


class SavedSeconds:
    """Estimates what hits have saved: what the search would have waited for them, less what it did wait.

    Requests of one role that the search asks for one after another, with none of another role between them, are a
    wave: they run side by side, and the search waits for the longest. The seconds are those that requests took beside
    others, so the estimate may be higher than the gain.
    """

    def __init__(self) -> None:
        self._role, self._wave = "", 0
        self._waves: dict[int, tuple[float, float]] = {}

    def wave(self, role: str) -> int:
        """The wave of a request that the search asks for now."""
        if role != self._role:
            self._role, self._wave = role, self._wave + 1
        return self._wave

    def answered(self, wave: int, seconds: float, waited: float) -> None:
        """A request of this wave took so many seconds, and the search waited so many of them."""
        longest, most = self._waves.get(wave, (0.0, 0.0))
        self._waves[wave] = max(longest, seconds), max(most, waited)

    @property
    def total(self) -> float:
        """Seconds saved so far."""
        return sum(longest - waited for longest, waited in self._waves.values())


@dataclass(frozen=True, slots=True)
class Speculated:
    """Requests that were sent early. What hits cost is in the usage of the run; what misses cost is here alone."""

    hits: dict[str, int] = field(default_factory=dict)
    """Early requests that the search asked for later, by kind."""
    misses: dict[str, int] = field(default_factory=dict)
    """Those that it did not ask for, cancelled ones included, by kind."""
    usage: Usage = field(default_factory=Usage)
    """Cost of the misses. A cancelled request costs what it had written; what its prompt cost is unknown."""
    tokens_at_least: int = 0
    """The part of it that is known, in tokens."""
    errors: int = 0
    """Guesses that ended with an error of a backend or a plug-in; none of them reached the search."""
    seconds_saved: float = 0.0
    """An estimate of what the hits saved (:class:`SavedSeconds`)."""

    @property
    def hit_rate(self) -> float | None:
        """Hits per early request; None without any."""
        hits, misses = sum(self.hits.values()), sum(self.misses.values())
        return hits / (hits + misses) if hits + misses else None

    def to_json(self) -> dict[str, Any]:
        """The part ``speculated`` of a result."""
        rate = self.hit_rate
        return {
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": None if rate is None else round(rate, 4),
            "calls": self.usage.calls,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "tokens_at_least": self.tokens_at_least,
            "errors": self.errors,
            "seconds_saved": self.seconds_saved,
        }
