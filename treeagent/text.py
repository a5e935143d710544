"""The gate through which text enters: completions, data rows, arguments and files.

Each source passes it once, where it enters. Behind it no text holds a lone surrogate, which no UTF-8 file and no
request could take, and no text is larger than its source may give. Nothing else is changed: blanks are the text's own.
Lines end at LF, CRLF and CR, nowhere else: U+2028, NEL and form feed are characters of a line.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

INPUT_BYTES = 2**24
"""Most bytes of standard input."""
DATA_BYTES = 2**27
"""Most bytes of a data file, after decompression."""
CHARACTERS = (1024, 256)
"""A completion may have so many characters, and so many more for each of its ``max_tokens``. The longest tokens of the
known vocabularies are runs of 128 equal characters; most have fewer than 10."""
NESTED = 100
"""Most levels of lists and mappings in a data row."""

_LINE_END = r"(?:\r\n|\n|\r(?!\n))"


def clean(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD; two that make a pair become their character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def cleaned(value: Any) -> Any:
    """A value of JSON or YAML with every text in it :func:`clean`, keys too. Raises ValueError for deep nesting.

    What occurs in several places, as an alias of YAML does, is one object in the result as well.
    """
    done: dict[int, Any] = {}

    def walk(value: Any, levels: int) -> Any:
        if isinstance(value, str):
            return clean(value)
        if not isinstance(value, dict | list):
            return value
        if not levels:
            raise ValueError(f"it is nested deeper than {NESTED} levels")
        if id(value) not in done:
            if isinstance(value, dict):
                done[id(value)] = {walk(key, levels - 1): walk(item, levels - 1) for key, item in value.items()}
            else:
                done[id(value)] = [walk(item, levels - 1) for item in value]
        return done[id(value)]

    return walk(value, NESTED)


def argument(text: str) -> str:
    """A text that a user or a program gives: :func:`clean`, without a byte order mark before it."""
    return clean(text.removeprefix(BYTE_ORDER_MARK))


def decode(content: bytes) -> str:
    """The text of a file or stream in UTF-8, a byte order mark left out. Raises UnicodeDecodeError."""
    return content.decode("utf-8-sig")


def character_limit(max_tokens: int) -> int:
    """Most characters of a completion of at most ``max_tokens`` tokens; what is beyond is cut off."""
    return CHARACTERS[0] + CHARACTERS[1] * max_tokens


def lines(text: str) -> list[str]:
    """The lines of a text without their ends; a line end at the end of the text begins no further line."""
    parts = re.split(_LINE_END, text)
    return parts[:-1] if parts[-1] == "" else parts


def split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators; a line break in the separator stands for LF, CRLF and CR."""
    if "\n" not in separator:
        return text.split(separator)
    return re.split(_LINE_END.join(map(re.escape, separator.split("\n"))), text)


def split_off(text: str, separator: str) -> str:
    """The text up to its last separator, which is part of it; a line break in the separator is as in :func:`split`."""
    last = split(text, separator)[-1]
    return text[: len(text) - len(last)]


def strip_breaks(text: str) -> str:
    """The text without the line breaks before and after it; blanks stay."""
    return text.strip("\r\n")


def single_blanks(text: str) -> str:
    """The text with every run of blanks, non-breaking ones included, made one; none at its ends; line breaks stay."""
    return re.sub(r"[^\S\n]+", " ", text).strip()


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with every unprintable character replaced, except those in ``keep``; every kind of blank is a blank.

    The output of a model must not control a terminal: it may hold escape sequences or bidirectional overrides.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _shown(char) for char in text)


def _shown(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else REPLACEMENT
