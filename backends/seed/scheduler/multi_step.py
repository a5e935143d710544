"""How many passes a round makes in one call (multi-step scheduling, as in vLLM).

Beside a small model a round's Python takes as long as its pass. Where nothing but logits and noise decides on the
tokens of all rows, the kernels make several passes and draw the tokens between them, and Python follows once. What a
row got behind its end is dropped. A call takes no longer than a request that comes meanwhile may wait, so that models
of long passes make one at a time.

Drafts serve the same end: a round verifies them, or makes several passes without any. Which of both gives more tokens a
second is measured, for every magnitude of rows, and the worse one is tried again from time to time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..executor.model_runner import ModelRunner
from ..speculation.speculator import Speculator
from ..verifiers.base import Verifier
from ..verifiers.coupled import Coupled
from .jobs import Job

LONGEST = 0.02
"""Seconds of a call as they are predicted: a request that comes meanwhile waits for its end."""
SMALL = 0.04
"""A call has passes until Python takes this part of their time; more of them gain little."""
MOST = 32
"""Passes of a call."""
TRIAL = 6
"""Rounds of each kind before both are compared, and whenever the worse one is tried."""
AGAIN = 250
"""Rounds of the better kind between two trials of the other."""
FADE = 0.1
"""Weight of a round in the recent mean."""
LEVEL = 4.0
"""The most that a round counts for, over that mean: the machine may have done something else meanwhile."""


@dataclass(slots=True)
class TokenPace:
    """What a token takes in rounds of one kind, as a multiple of a row's share of a predicted pass."""

    mean: float = 0.0
    rounds: int = 0

    def add(self, value: float) -> None:
        """A round has taken so long for a token."""
        self.rounds += 1
        weight = max(FADE, 1 / self.rounds)
        if self.rounds > TRIAL:
            value = min(value, LEVEL * self.mean)
        self.mean += weight * (value - self.mean)


@dataclass(slots=True)
class StepChoice:
    """Which kind of rounds pays at one magnitude of rows."""

    single: TokenPace
    """One pass, with drafts if they pay."""
    several: TokenPace
    """Several passes in a call."""
    outside: float = 0.0
    """Recent seconds of a round outside of its passes."""
    left: int = 0
    """Rounds of the worse kind until its trial ends."""
    since: int = 0
    """Rounds since the last trial."""

    def take(self) -> bool:
        """Whether the next round makes several passes."""
        for pace in (self.single, self.several):
            if pace.rounds < TRIAL:
                return pace is self.several
        better = self.several.mean < self.single.mean
        if self.left:
            self.left -= 1
            return not better
        self.since += 1
        if self.since >= AGAIN:
            self.since, self.left = 0, TRIAL
        return better


class MultiStep:
    """Decides for every round, and learns from it."""

    def __init__(self, runner: ModelRunner, speculator: Speculator, verifier: Verifier) -> None:
        self._runner, self._speculator = runner, speculator
        self._coupled = verifier.name == Coupled.name
        self._choices: dict[int, StepChoice] = {}
        self._choice: StepChoice | None = None
        """Of the round that is under way, and its pace."""
        self._pace: TokenPace | None = None
        self._settled = True

    def choose(self, ready: Sequence[Job]) -> int:
        """Passes of a round of these jobs, whose prompts are computed; 1: as usual, with drafts or without."""
        self._pace = None
        if self._excluded(ready):
            return 1
        rows = len(ready)
        choice = self._choice = self._choices.setdefault(rows.bit_length(), StepChoice(TokenPace(), TokenPace()))
        count = self._count(ready, self._speculator.cost(rows), choice.outside)
        if count < 2:
            self._pace = choice.single
            return 1
        several = choice.take()
        if several and not self._settled:
            self._settled = True
            return 1
        self._pace = choice.several if several else choice.single
        return count if several else 1

    def record(self, rows: int, seconds: float, outside: float, tokens: int) -> None:
        """The round of the last choice took ``seconds``, some ``outside`` of passes, and gave so many tokens."""
        if self._pace is not None and self._choice is not None and tokens:
            self._pace.add(seconds / tokens * rows / self._speculator.cost(rows))
            mean = self._choice.outside
            self._choice.outside += FADE * (min(outside, LEVEL * mean) - mean) if mean else outside
        self._pace = None

    def forget(self) -> None:
        """The round of the last choice has failed, or turned out to be another one, such as one that reads a prompt."""
        self._pace = None

    def settle(self, *, settled: bool) -> None:
        """Whether the last call left no draw to the host, which makes it in the next round otherwise."""
        self._settled = settled

    def _excluded(self, ready: Sequence[Job]) -> bool:
        """Whether the engine or a row needs more between two passes than logits and noise."""
        drafter, forced = self._speculator.drafter, self._speculator.draft_tokens is not None
        if not ready or not self._coupled or not self._runner.takes_steps:
            return True
        if drafter is not None and (forced or drafter.top_k_wanted or drafter.passes or drafter.nodes_drawn(1)):
            return True  # it reads every pass, or has passes of its own
        return not all(job.most_steps for job in ready)

    def _count(self, ready: Sequence[Job], seconds: float, outside: float) -> int:
        """Passes of ``seconds`` each that pay beside so much ``outside``, as far as time and memory allow."""
        steps = [job.most_steps for job in ready]
        count = min(MOST, max(steps), int(LONGEST / seconds), math.ceil(outside / (SMALL * seconds)))
        if count < 2:
            return 1
        cache = self._runner.forest
        need = sum([job.branches[0].slots_needed(min(count, most)) for job, most in zip(ready, steps, strict=True)])
        if cache.pool.room < need <= cache.pool.limit // 8:
            cache.evict(need - cache.pool.room)
        return count if need <= cache.pool.room else 1
