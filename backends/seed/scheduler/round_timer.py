"""Adds the time of a round, and the draft model's work in it, to the counters."""

from __future__ import annotations

import time

from ..executor.model_runner import ModelRunner
from ..speculation.draft_usage import DraftUsage
from ..speculation.speculator import Speculator
from .metrics import Counters


class RoundTimer:
    """Times one round after another; a round that fails is not counted."""

    def __init__(self, runner: ModelRunner, speculator: Speculator) -> None:
        self._runner, self._speculator = runner, speculator
        self._began = self._target_seconds = 0.0
        self._usage = DraftUsage()

    def start(self) -> None:
        """A round begins."""
        self._began = time.perf_counter()
        self._target_seconds, self._usage = self._runner.seconds, self._speculator.usage()

    def skip(self, seconds: float) -> None:
        """So much of the time since the start was not this round's: other targets' rounds share its pass."""
        self._began += seconds

    def stop(self, counters: Counters) -> float:
        """The round is over; returns the seconds that it took outside of the models."""
        before, usage = self._usage, self._speculator.usage()
        seconds, target_seconds = time.perf_counter() - self._began, self._runner.seconds - self._target_seconds
        counters.add_round(seconds, target_seconds)
        if usage is not before:  # a draft model
            known = before.exit_counts or (0,) * len(usage.exit_counts)
            exits = [now - then for now, then in zip(usage.exit_counts, known, strict=True)]
            counters.add_drafting(usage.seconds - before.seconds, usage.passes - before.passes, exits)
        return max(0.0, seconds - target_seconds - (usage.seconds - before.seconds))
