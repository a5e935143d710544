"""A text without what does not change the answer: case, runs of blanks, quotes around it, final punctuation."""

from __future__ import annotations

import unicodedata

_PAIRS = {'"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c"}
"""Quotation marks and marks of emphasis that are left out where they stand around the whole text."""
_FINAL = ".,;:!?"


def plain(text: str) -> str:
    """The text in small letters (case folded, composed), with single blanks, unwrapped, without final punctuation."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return unwrapped(" ".join(folded.split()))


def unwrapped(text: str) -> str:
    """The text without the blanks, quotes and emphasis around it and the punctuation after it; its case is kept."""
    while True:
        inner = text.strip().rstrip(_FINAL)
        if len(inner) > 1 and _PAIRS.get(inner[0]) == inner[-1]:
            inner = inner[1:-1]
        inner = inner.strip()
        if inner == text or not inner:
            return inner or text.strip()
        text = inner
