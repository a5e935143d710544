"""Texts cut to a number of bytes that they take in a page."""

from __future__ import annotations

from .page import inert


def size_of(text: str) -> int:
    """Bytes of a text as inert JSON."""
    return len(inert(text))


def bounded(text: str, most: int) -> str:
    """The text, cut at its end and with an ellipsis where it would take more than ``most`` bytes (8 at least)."""
    if size_of(text) <= most:
        return text
    left, length = most - 8, 0  # quotes and the ellipsis
    for char in text:
        left -= _bytes(char)
        if left < 0:
            break
        length += 1
    return f"{text[:length]}\N{HORIZONTAL ELLIPSIS}"


def _bytes(char: str) -> int:
    """Bytes of a character as inert JSON, at most."""
    if " " <= char <= "~":
        return 6 if char in "<>&" else 2 if char in '"\\' else 1
    return 6 if char <= "\uffff" else 12
