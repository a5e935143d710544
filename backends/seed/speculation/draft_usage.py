"""What a draft model has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DraftUsage:
    """Work of the draft model so far."""

    seconds: float = 0.0
    """Time of its passes."""
    passes: int = 0
    exit_counts: tuple[int, ...] = ()
    """Tokens that ended at each of its exits; empty for a model of one exit."""


UNUSED = DraftUsage()
