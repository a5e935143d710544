"""Sums of amounts that may be unknown."""

from __future__ import annotations

from typing import TypeVar

Amount = TypeVar("Amount", int, float)


def total(*amounts: Amount | None) -> Amount | None:
    """The sum; None as soon as one amount is unknown. 0 without amounts."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
