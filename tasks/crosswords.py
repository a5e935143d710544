"""Mini crosswords: a five by five grid, five words across (h1-h5) and five down (v1-v5), every letter in both.

A state lists each clue with the letters that its word has so far::

    h1. Pumps blood: HE___

A word is legal where it changes no letter that stands. Whether it answers its clue, no checker can know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from treeagent.checker import Checker

SIZE = 5
SLOTS = tuple(f"{way}{number}" for way in "hv" for number in range(1, SIZE + 1))
FULL = "The grid is full."
_LINE = re.compile(r"(?P<slot>[hv][1-5])\. (?P<clue>.*): (?P<letters>[A-Z_]{5})")
_STEP = re.compile(r"(?:[-*•] *)?(?i:(?P<slot>[hv][1-5])[.:)]? *(?P<word>[a-z]{5}))\b.*")


@dataclass(frozen=True, slots=True)
class Grid:
    """Ten clues and the letters so far."""

    clues: tuple[str, ...]
    letters: str = "_" * SIZE * SIZE
    """Row by row; ``_`` for an empty cell."""

    def word(self, slot: str) -> str:
        """The letters of a slot, such as ``h1``."""
        return "".join(self.letters[cell] for cell in _cells(slot))

    def filled(self, slot: str, word: str) -> Grid | None:
        """With a word written in; None where a letter would change, or where nothing would."""
        now = self.word(slot)
        if now == word or any(old not in ("_", new) for old, new in zip(now, word, strict=True)):
            return None
        cells = dict(zip(_cells(slot), word, strict=True))
        return Grid(self.clues, "".join(cells.get(at, letter) for at, letter in enumerate(self.letters)))

    @property
    def text(self) -> str:
        """A line a clue; inverse of :func:`read`."""
        lines = [f"{slot}. {clue}: {self.word(slot)}" for slot, clue in zip(SLOTS, self.clues, strict=True)]
        return "\n".join(lines if "_" in self.letters else [*lines, FULL])


def _cells(slot: str) -> range:
    place = int(slot[1]) - 1
    return range(place * SIZE, (place + 1) * SIZE) if slot[0] == "h" else range(place, SIZE * SIZE, SIZE)


def read(text: str) -> Grid:
    """The board that a state shows. Raises ValueError where across and down disagree or a line is not a clue's."""
    lines = text.removesuffix(FULL).strip().splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    if len(matches) != 2 * SIZE or not all(
        match and match["slot"] == slot for match, slot in zip(matches, SLOTS, strict=True)
    ):
        raise ValueError("a state has ten lines such as 'h1. A clue: AB___', h1 to h5 and v1 to v5")
    board = Grid(tuple(match["clue"] for match in matches if match), "".join(m["letters"] for m in matches[:SIZE] if m))
    if board.text.removesuffix(FULL).strip().splitlines() != lines:
        raise ValueError("the words across and down do not agree")
    return board


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a crossword that are right (Tree of Thoughts, section 4.3)."""

    letters: float
    words: float
    game: bool


def shares(answer: str, gold: str) -> Shares:
    """Compare two grids, each 25 letters row by row; white space does not count, a missing letter is wrong.

    Raises ValueError where the gold answer has other than 25 letters.
    """
    letters, right = ("".join(text.split()).upper() for text in (answer, gold))
    if len(right) != SIZE * SIZE:
        raise ValueError(f"the gold answer has {len(right)} letters, not {SIZE * SIZE}")
    letters = letters.ljust(SIZE * SIZE, "_")[: SIZE * SIZE]
    words = sum(all(letters[at] == right[at] for at in _cells(slot)) for slot in SLOTS)
    matching = sum(map(str.__eq__, letters, right))
    return Shares(matching / SIZE**2, words / len(SLOTS), matching == SIZE**2)


class Crosswords(Checker):
    """Registered as ``crosswords``."""

    def read(self, input: str) -> str:
        """Ten clues with ``|`` between them, across before down, white space made one blank."""
        clues = [" ".join(clue.split()) for clue in input.split("|")]
        if len(clues) != 2 * SIZE or not all(clues):
            raise ValueError(f"it has {len([clue for clue in clues if clue])} clues, not {2 * SIZE}")
        return " | ".join(clues)

    def start(self, input: str) -> str:
        """The empty grid."""
        return Grid(tuple(input.split(" | "))).text

    def key(self, state: str) -> str:
        """The letters: the clues never change in a search."""
        return read(state).letters

    def transition(self, parent: str, text: str) -> str | None:
        """The grid with a word written in; None where the text names no slot and word, or a letter would change."""
        match = _STEP.fullmatch(text)
        board = read(parent).filled(match["slot"].lower(), match["word"].upper()) if match else None
        return None if board is None else board.text

    def grade(self, answer: str, gold: str) -> bool:
        """Whether all 25 letters are right; :func:`shares` counts them."""
        return shares(answer, gold).game
