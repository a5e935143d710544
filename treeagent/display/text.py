"""Text that is safe to show: without control characters, on one line, cut to a width."""

from __future__ import annotations

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with every unprintable character replaced, except those in ``keep``.

    The output of a model must not control a terminal: it may hold escape sequences or bidirectional overrides.
    """
    return "".join(char if char.isprintable() or char in keep else REPLACEMENT for char in text)


def one_line(text: str, width: int | None = None) -> str:
    """The printable text with white space collapsed to single blanks, cut to ``width`` characters where given."""
    line = printable(" ".join(text.split()), keep="")
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"
