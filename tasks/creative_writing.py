"""Creative writing: whether four paragraphs end with four given sentences. Their quality is left to the evaluator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, groupby

from treeagent.checker import Checker

COUNT = 4
"""Number of given sentences, and of paragraphs to write."""
_END = re.compile(r"""(?:(?<=[.!?…])|(?<=[.!?…]["')]))\s+(?=["'(]*[A-Z0-9])""")
_CAPITAL = re.compile(r"""\s+(?=["'(]*[A-Z])""")
_CAPITALS = 200
"""Places where a fragment may end, at most: every reading is compared with the passage."""
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


def readings(text: str) -> list[tuple[str, ...]]:
    """Every way to read a text as four sentences; empty where there is none.

    ``|`` between sentences leaves no choice. Where one end mark is missing, any capital may begin the next sentence:
    five of the paper's 100 inputs have a fragment without a full stop.
    """
    text = _plain(text)
    if "|" in text:
        parts = tuple(part.strip() for part in text.split("|"))
        return [parts] if len(parts) == COUNT and all(parts) else []
    sure = [match.end() for match in _END.finditer(text)]
    missing = COUNT - 1 - len(sure)
    if missing not in (0, 1):
        return []
    possible = [match.end() for match in _CAPITAL.finditer(text) if match.end() not in sure]
    if missing and len(possible) > _CAPITALS:
        return []
    return [_cut(text, sorted([*sure, *more])) for more in combinations(possible, missing)]


def _cut(text: str, places: Sequence[int]) -> tuple[str, ...]:
    return tuple(text[start:end].strip() for start, end in zip([0, *places], [*places, None], strict=True))


def _plain(text: str) -> str:
    """With one kind of quotation marks and single blanks, so that texts that differ in these are equal."""
    return " ".join(text.translate(_QUOTES).split())


def paragraphs(passage: str) -> list[str]:
    """Parts between blank lines; between line breaks where there is no blank line."""
    lines = [line.strip() for line in passage.strip().split("\n")]
    if "" not in lines:
        return [_plain(line) for line in lines if line]
    groups = (list(group) for full, group in groupby(lines, key=bool) if full)
    return [_plain(" ".join(group)) for group in groups]


class CreativeWriting(Checker):
    """Registered as ``creative_writing``."""

    def read(self, input: str) -> str:
        """Four sentences, or four parts with ``|`` between them."""
        if not readings(input):
            raise ValueError("it cannot be read as four sentences; write | between them")
        return " ".join(input.split())

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Four paragraphs whose ends are the four sentences, in order; quotation marks and spacing aside."""
        passage = answer if answer is not None else steps[-1] if steps else ""
        written = paragraphs(passage)
        return len(written) == COUNT and any(
            all(paragraph == end or paragraph.endswith(f" {end}") for paragraph, end in zip(written, ends, strict=True))
            for ends in readings(input)
        )
