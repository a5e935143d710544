"""The contract of verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ..executor.logits import Logits
from ..records import Draft, SequenceState


@dataclass(slots=True, eq=False)
class DraftCheck:
    """A sequence's draft, and where its logits are."""

    row: SequenceState
    draft: Draft
    first: int
    """Row of the logits after the sequence's last token; those after each drafted token follow."""

    def children(self) -> dict[int, list[int]]:
        """Nodes by parent, -1 for the sequence's last token."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.draft.parents):
            children.setdefault(parent, []).append(node)
        return children


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of one sequence's verification."""

    accepted: tuple[int, ...]
    """Accepted nodes of the draft, from the top down."""
    tokens: tuple[int, ...]
    """The accepted tokens and one more of the target's."""


class Verifier(ABC):
    """A rule that accepts drafted tokens."""

    name: str

    @abstractmethod
    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """One verification for each draft, None where logits are not finite (a broken model).

        ``logits`` (R, V) of a pass, whose rows the checks point to.
        """
