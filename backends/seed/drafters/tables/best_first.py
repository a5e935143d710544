"""Draft trees that grow best-first from the guesses of a table.

The papers on table drafters verify a template of 80 nodes whatever the table holds. Here the node of the highest value
is expanded next, down to the value that still pays (OPT-Tree, Wang et al., arXiv 2406.17276), and the engine verifies
the best nodes of all sequences.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Protocol, TypeVar

from ...records import Draft, SequenceState
from ..base import Drafter

CONTEST = 3.0
"""Candidates whose score is this far below the best are not given their noise: it seldom lets them win, and computing
it takes most of the time of a guess."""
LEAST_FLOOR = 0.02
"""A lower floor counts as this one."""
BREADTH = 2
"""Mean nodes per level of the largest draft; trees down to a floor of 0.1 are mostly smaller."""


class Guess(Protocol):
    """Candidates for the next token of one text, the best first."""

    tokens: list[int]
    confidences: list[float]
    """For each candidate the calibrated probability that it is accepted."""


GuessType = TypeVar("GuessType", bound=Guess)


class BestFirstDrafter(Drafter):
    """Drafts each sequence apart, best-first."""

    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """For each sequence the nodes that are reached and accepted with a probability of at least ``floor``."""
        if floor >= 1:
            return [Draft() for _ in rows]
        depths = [min(depth, row.room) for row in rows]
        least = max(floor, LEAST_FLOOR)
        return [
            self._draft(row, least, levels) if levels > 0 else Draft() for row, levels in zip(rows, depths, strict=True)
        ]

    @abstractmethod
    def _draft(self, row: SequenceState, floor: float, depth: int) -> Draft:
        """The draft of one sequence, of one level at least."""


def best_first(root: GuessType, child: Callable[[GuessType, int, int], GuessType], floor: float, depth: int) -> Draft:
    """A draft in the order of value, so that its first n nodes are the best draft of n nodes.

    ``child(guess, token, level)`` is the guess after a candidate of another guess, ``level`` tokens after the root's
    text. Nodes of less value than ``floor`` are left out.
    """
    draft, order = Draft(), count()
    heap: list[tuple[float, int, int, float, int, int, GuessType]] = []
    guess, node, value, level = root, -1, 1.0, 0
    while True:
        if level < depth:
            if node >= 0:
                guess = child(guess, draft.tokens[node], level)
            for token, confidence in zip(guess.tokens, guess.confidences, strict=True):
                if value * confidence >= floor:
                    heappush(heap, (-value * confidence, next(order), token, confidence, node, level + 1, guess))
        if not heap or len(draft) == BREADTH * depth:
            return draft
        negative, _, token, confidence, parent, level, guess = heappop(heap)
        draft.tokens.append(token)
        draft.parents.append(parent)
        draft.confidence.append(confidence)
        node, value = len(draft) - 1, -negative


def contest_threshold(scores: Sequence[float], other: float) -> float | None:
    """The score above which a candidate may win by its noise; None where fewer than two may.

    ``other``: the score of all tokens that are no candidates, taken as one.
    """
    threshold = max([other, *scores]) - CONTEST
    contenders = sum(score > threshold for score in scores) + (other > threshold)
    return threshold if contenders > 1 else None
