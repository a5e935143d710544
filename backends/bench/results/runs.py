"""The raw results: runs of a plan, with the tokens of its reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config.modes import Mode
from ..config.plan import BenchPlan
from ..runners.base import Measurement, Tokens


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One timed run of one mode, or its failure."""

    mode: Mode
    branches: int
    repeat: int
    """From 0."""
    measurement: Measurement | None
    """None: it failed."""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the tokens themselves, but with a digest of them."""
        head: dict[str, Any] = {"mode": self.mode.name, "branches": self.branches, "repeat": self.repeat}
        if self.measurement is None:
            return {**head, "error": self.error}
        return {
            **head,
            "seconds": self.measurement.seconds,
            "cpu_seconds": self.measurement.cpu_seconds,
            "peak_bytes": self.measurement.peak_bytes,
            "load_peak_bytes": self.measurement.load_peak_bytes,
            "score": self.measurement.score,
            "tokens": self.measurement.tokens,
            "digest": digest(self.measurement.outputs),
            "figures": dict(self.measurement.figures),
        }


@dataclass(frozen=True, slots=True)
class PlanResult:
    """What was measured of a plan, perhaps not all of it."""

    plan: BenchPlan
    runs: tuple[BenchRun, ...] = ()
    reference: tuple[Tokens, ...] | None = None
    """The reference's tokens for all prompts, or for the first of them; None: nothing is compared."""
    failure: str | None = None
    """Why the plan ended early."""


def digest(outputs: Sequence[Tokens]) -> str:
    """A digest of token ids; equal digests mean equal tokens."""
    return hashlib.blake2b(json.dumps([list(tokens) for tokens in outputs]).encode(), digest_size=12).hexdigest()
