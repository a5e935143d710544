"""How memory of a fixed size is divided among layers with a window and the others, before any text is known."""

from __future__ import annotations

from fractions import Fraction

LEAST = Fraction(2, 3)
"""Of the tokens that could be held in all layers, those that can be where no text is longer than the window."""
MOST = 16
"""Slots for each row: what the host keeps of a slot takes memory too."""


def fixed_shares(count: int, slot_bytes: int, row_bytes: int, window: int, context: int) -> tuple[int, int]:
    """Slots and rows in the memory of ``count`` tokens of all layers, which take so many bytes of either kind.

    The longest texts, of ``context`` tokens, need rows for their last ``window`` alone, texts within the window as
    many as slots. What is right for one is wrong for the other, so rows are for two thirds of the tokens at least.
    Where all layers have windows, slots take no memory, and all of it is for rows.
    """
    times = min(MOST, max(1, -(-context // window)))
    rows = max(int(LEAST * count), count * (slot_bytes + row_bytes) // (slot_bytes * times + row_bytes))
    slots = rows * times
    if slot_bytes:
        slots = min(slots, (count * (slot_bytes + row_bytes) - rows * row_bytes) // slot_bytes)
    return slots, rows
