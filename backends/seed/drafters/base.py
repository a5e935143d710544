"""The contract of a drafter, which proposes continuations of live sequences.

A wrong proposal costs time and never changes the output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import BeamGroup, Draft, SequenceState


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedDraft:
    """The target's k likeliest next tokens after the last token of a sequence and after every node of its draft."""

    row: SequenceState
    """The sequence before the commit."""
    draft: Draft
    tokens: tuple[int, ...]
    """The tokens to commit; the text may end before the last of them."""
    best: NDArray[np.int64]
    """(1 + nodes, k) next tokens, the likeliest first; accepted and rejected nodes alike."""
    chances: NDArray[np.float64]
    """(1 + nodes, k) their probabilities at temperature 1 without top-k or top-p; zeros where logits are not finite."""


@dataclass(frozen=True, slots=True)
class RoundLoad:
    """Sequences of the same pass that another drafter has drafted for; a model's drafting delays them as well."""

    rows: int = 0
    tokens: float = 0.0
    """Tokens that they are expected to gain in the pass."""
    nodes: int = 0
    """Drafted nodes of them."""
    seconds: float = 0.0
    """What the round takes beside its pass, whatever is verified in it."""


EMPTY_LOAD = RoundLoad()


class Drafter(ABC):
    """Proposes drafts for all live sequences of a round. Called from the model thread only."""

    name: str
    """The name in options and metrics."""
    seconds: float = 0.0
    """Seconds spent in passes of a draft model."""
    passes: int = 0
    """Passes of a draft model."""
    exit_counts: Sequence[int] = ()
    """Tokens of the draft model by exit; empty for a model without exits."""
    top_k_wanted: int = 0
    """Number of likeliest tokens of the target that :meth:`learn` needs for each place; 0: it is not called."""

    @abstractmethod
    def propose(self, rows: Sequence[SequenceState], floor: float, depth: int) -> Sequence[Draft]:
        """One draft per row, possibly empty, of at most ``min(depth, row.room)`` levels.

        A node whose probability of being accepted (the product of confidences on its path) is below ``floor`` does not
        pay and should be left out. Rows of a beam group occur only if :meth:`beam_nodes` is not 0, all rows of a group
        in a sequence; ``floor`` and ``depth`` do not apply to them, and the group's layers are filled as well.
        """

    def beam_nodes(self, group: BeamGroup) -> int:
        """The most nodes of a draft for a group of beams; 0 if the drafter does not draft for beams."""
        return 0

    def nodes_drawn(self, depth: int) -> int:
        """The most nodes of a draft of ``depth`` levels that must not be cut, because they are random draws."""
        return 0

    def warm(self, tokens: Sequence[int]) -> bool:
        """Learn a text of an earlier run; False for a drafter that learns nothing from texts."""
        return False

    def observe(self, row: SequenceState, start: int) -> None:
        """Take note of newly committed tokens ``row.tokens[start:]`` (first of all the prompt)."""

    def observe_all(self, fresh: Sequence[tuple[SequenceState, int]]) -> None:
        """Take note of the newly committed tokens of several sequences, see :meth:`observe`."""
        for row, start in fresh:
            self.observe(row, start)

    def learn(self, verified: Sequence[VerifiedDraft]) -> None:
        """Learn from a pass that verified drafts of :meth:`propose`.

        Called if :attr:`top_k_wanted` is positive and drafting is enabled.
        """

    def forget(self, row: SequenceState) -> None:
        """Drop the state of a row that finished, was cancelled or failed."""

    def close(self) -> None:
        """Free all state."""


MOST_LEVELS, MOST_NODES = 16, 256
"""Largest fixed tree."""
