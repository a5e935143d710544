"""The contract of drafters: they propose how live sequences continue. Wrong proposals cost time, never correctness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import BeamGroup, Draft, SequenceState


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedDraft:
    """The target's k likeliest next tokens after each place of one sequence in a pass.

    Places are the sequence's last token and every node of its draft, accepted or not.
    """

    row: SequenceState
    """As it was drafted for: nothing is committed yet."""
    draft: Draft
    tokens: tuple[int, ...]
    """The tokens that will be committed, though the text may end before the last of them."""
    best: NDArray[np.int64]
    """(1 + nodes, k) next tokens after each place, the likeliest first."""
    chances: NDArray[np.float64]
    """(1 + nodes, k) their probabilities at temperature 1, without cuts; zeros where logits are not finite."""


@dataclass(frozen=True, slots=True)
class RoundLoad:
    """Sequences in the same pass that another drafter has drafted for: drafting delays them as well."""

    rows: int = 0
    tokens: float = 0.0
    """Tokens that they are expected to get from the pass."""
    nodes: int = 0
    """Nodes drafted for them."""


EMPTY_LOAD = RoundLoad()


class Drafter(ABC):
    """Proposes drafts for all live sequences of a round at once. Called from the engine's thread only."""

    name: str
    """The name that users select it by and metrics show."""
    seconds: float = 0.0
    """Time of the draft model's passes so far."""
    passes: int = 0
    """The draft model's passes so far."""
    exit_counts: Sequence[int] = ()
    """Tokens that ended at each exit of the draft model so far; empty for a drafter without exits."""
    top_k_wanted: int = 0
    """How many of the target's likeliest tokens :meth:`learn` needs for each place; 0: it is not called."""

    @abstractmethod
    def propose(
        self, rows: Sequence[SequenceState], floor: float, depth: int, load: RoundLoad = EMPTY_LOAD
    ) -> list[Draft]:
        """One draft per sequence, perhaps empty, of at most ``min(depth, row.room)`` levels.

        Sequences of a group of beams are among ``rows`` only where :meth:`beam_nodes` is not 0, those of one group side
        by side. ``floor`` and ``depth`` do not apply to them; the group's layers are filled along with their drafts.

        A node whose probability of being reached and accepted (the product of confidences on its path) is below
        ``floor`` cannot pay and should be left out. ``load``: the other sequences of the pass.
        """

    def beam_nodes(self, group: BeamGroup) -> int:
        """The most nodes of its draft for a group of beams; 0 when it drafts for single sequences only."""
        return 0

    def nodes_drawn(self, depth: int) -> int:
        """The most nodes in a draft of ``depth`` levels that must all be verified, as they were drawn at random."""
        return 0

    def observe(self, row: SequenceState, start: int) -> None:
        """``row.tokens[start:]`` were just committed; the first call for a sequence has its whole prompt."""

    def learn(self, verified: Sequence[VerifiedDraft]) -> None:
        """Learn from a pass in which drafts of :meth:`propose` were verified; called if :attr:`top_k_wanted` > 0.

        Not called while drafting is off: then nothing is computed that costs time.
        """

    def forget(self, row: SequenceState) -> None:
        """The sequence is no longer live: it finished, failed or was cancelled."""

    def close(self) -> None:
        """Free what the drafter holds."""


MOST_LEVELS, MOST_NODES = 16, 256
"""Limits of a tree of a fixed shape."""
