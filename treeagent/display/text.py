"""Text that is safe to show: without control characters, on one line, cut to a width."""

from __future__ import annotations

from ..text import printable

__all__ = ["one_line", "printable"]


def one_line(text: str, width: int | None = None) -> str:
    """The printable text with white space collapsed to single blanks, cut to ``width`` characters where given."""
    line = printable(" ".join(text.split()), keep="")
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"
