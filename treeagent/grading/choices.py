"""One of a row's options, named by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .plain_text import plain, unwrapped

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LABELLED = re.compile(
    r"\s*(?:\((?P<inside>[A-Za-z]|\d{1,2})\)|(?P<before>[A-Za-z]|\d{1,2})[).:])\s*(?P<text>.*)", re.DOTALL
)
"""``(B) text``, ``B) text``, ``B. text``, ``B: text``; the text may be empty."""
_LEAD = re.compile(
    r".*\b(?:answer|option|choice)\b(?:\s+(?:is|would be|should be))?\s*[:=]?\s*(?P<rest>\S.*)",
    re.DOTALL | re.IGNORECASE,
)
_BARE = re.compile(r"(?P<label>[B-HJ-Z])(?![\w'])|(?P<article>A)(?=\s*(?:[,;]|because\b|since\b|as\b))")
"""A capital that begins what follows ``the answer is``; ``A`` alone may be an article."""
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LONGEST = 20_000


def read_options(value: Any) -> dict[str, str]:
    """The texts of options by label.

    They are a list of texts, with or without labels (``A)21``, ``(A) 21``); a mapping from label to text; a mapping
    with the lists ``label`` and ``text``; or a text with one labelled option a line. Raises ValueError.
    """
    if isinstance(value, str):
        lines = [match for line in value.splitlines() if (match := _LABELLED.fullmatch(line)) and match["text"].strip()]
        return _distinct([(_label(match), match["text"]) for match in lines])
    if isinstance(value, Mapping):
        labels, texts = value.get("label"), value.get("text")
        if isinstance(labels, list) and isinstance(texts, list):
            return _distinct(list(zip(map(str, labels), map(str, texts), strict=False)))
        return _distinct([(str(label), str(text)) for label, text in value.items()])
    if not isinstance(value, Sequence):
        raise ValueError(f"options are a list, a mapping or a text, not {type(value).__name__}")
    texts = [str(text) for text in value]
    matches = [_LABELLED.fullmatch(text) for text in texts]
    labelled = [(_label(match), match["text"]) for match in matches if match is not None]
    if len(labelled) == len(texts) and [label for label, _ in labelled] == list(_LETTERS[: len(texts)]):
        return _distinct(labelled)
    if len(texts) > len(_LETTERS):
        raise ValueError(f"there are {len(texts)} options; letters name at most {len(_LETTERS)}")
    return dict(zip(_LETTERS, texts, strict=False))


def chosen(text: str, options: Mapping[str, str]) -> str | None:
    """The label of the option that a text names; None where it names none, or two. Without options: a letter.

    ``B``, ``(b)``, ``B.``, ``B) 21``, ``the answer is B``, and the text of the option in any case of its letters.
    """
    text = unwrapped(text[:_LONGEST])
    labels = {label.casefold(): label for label in options or dict.fromkeys(_LETTERS)}
    if (label := _named(text, labels, options)) is not None:
        return label or None
    if lead := _LEAD.fullmatch(text):
        rest = unwrapped(lead["rest"])
        if (label := _named(rest, labels, options)) is not None:
            return label or None
        if (bare := _BARE.match(rest)) and bare[0].casefold() in labels:
            return labels[bare[0].casefold()]
    bracketed = {label.casefold() for label in _BRACKETED.findall(text)} & set(labels)
    return labels[bracketed.pop()] if len(bracketed) == 1 else None


def _named(text: str, labels: Mapping[str, str], options: Mapping[str, str]) -> str | None:
    """The option that is all of the text: its label, its text or both; empty where the two contradict each other."""
    match = _LABELLED.fullmatch(text)
    alone = text if match is None else _label(match) if not match["text"].strip() else None
    if alone is not None and alone.casefold() in labels:
        return labels[alone.casefold()]
    by_text = _by_text(text, options)
    if by_text is not None or match is None:
        return by_text
    label = labels.get(_label(match).casefold())
    other = _by_text(match["text"], options)
    return "" if other is not None and other != label else label


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    wanted = plain(text)
    same = [label for label, option in options.items() if plain(option) == wanted]
    return same[0] if len(same) == 1 else None


def _label(match: re.Match[str]) -> str:
    return str(match["inside"] or match["before"])


def _distinct(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping. Raises ValueError without any, or where two labels are equal in any case."""
    if not pairs:
        raise ValueError("there is no option in it")
    if len({label.casefold() for label, _ in pairs}) < len(pairs):
        raise ValueError("two options have the same label")
    return {label.strip(): text.strip() for label, text in pairs}
