"""What a drafter is: it guesses how live branches go on; a guess that is wrong costs time, never correctness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import BeamGroup, Draft, SequenceState


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedDraft:
    """What the target said of one branch in a pass, k of its likeliest next tokens a place.

    Places are the row's last token and every node of its draft, accepted or not.
    """

    row: SequenceState
    """As it was drafted for: nothing is committed yet."""
    draft: Draft
    tokens: tuple[int, ...]
    """What will be committed, though the text may end before the last of them."""
    best: NDArray[np.int64]
    """(1 + nodes, k) next tokens after each place, the likeliest first."""
    chances: NDArray[np.float64]
    """(1 + nodes, k) their probabilities at temperature 1, without cuts; zeros where logits are not finite."""


@dataclass(frozen=True, slots=True)
class RoundLoad:
    """Branches of the same pass that somebody else has drafted for, and that wait as well while a model drafts."""

    rows: int = 0
    tokens: float = 0.0
    """What they are expected to get from the pass."""
    nodes: int = 0
    """Drafted for them."""


EMPTY_LOAD = RoundLoad()


class Drafter(ABC):
    """Proposes drafts for all live rows of a round at once. Called from the engine's thread only."""

    name: str
    """As the user selects it and metrics show it."""
    seconds: float = 0.0
    """Time spent in passes of a draft model so far."""
    passes: int = 0
    """How many passes of a draft model there were so far."""
    left: Sequence[int] = ()
    """How many tokens left the draft model at each of its exits so far; empty for one that has no exits."""
    others: RoundLoad = EMPTY_LOAD
    """Set before it is asked for a part of the rows only."""
    wants: int = 0
    """How many of the target's likeliest tokens :meth:`learn` is to be told for each place; 0: it is not called."""

    @abstractmethod
    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> list[Draft]:
        """One draft per row, perhaps empty, of at most ``min(depth, row.room)`` levels.

        Rows with a group come only where :meth:`beam_nodes` is not 0, all of a group side by side; floor and depth are
        none of their business, and the group's layers are filled along with their drafts.

        A node whose probability of being reached and accepted (the product of confidences on its path) is below
        ``floor`` cannot pay and should be left out.
        """

    def beam_nodes(self, group: BeamGroup) -> int:
        """The most nodes of its draft for a group of beams; 0 when it drafts for single rows only."""
        return 0

    def nodes_drawn(self, depth: int) -> int:
        """The most nodes of a draft of so many levels that must all be verified, as they were drawn by chance."""
        return 0

    def observe(self, row: SequenceState, start: int) -> None:
        """``row.tokens[start:]`` have just been committed (the whole prompt first, when the row joins)."""

    def learn(self, told: Sequence[VerifiedDraft]) -> None:
        """A pass has been made, in which drafts of :meth:`propose` were verified; only called if ``wants`` says so.

        Not while drafting rests: then nothing is worked out that costs time.
        """

    def forget(self, row: SequenceState) -> None:
        """The row has left: finished, cancelled or failed."""

    def close(self) -> None:
        """Free what the drafter holds."""


MOST_LEVELS, MOST_NODES = 16, 256
"""Of a fixed tree."""
