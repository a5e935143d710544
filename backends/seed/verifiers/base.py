"""The contract of verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ..executor.logits import Logits
from ..records import Draft, SequenceState


@dataclass(slots=True, eq=False)
class DraftCheck:
    """A branch's draft, and where its logits are."""

    row: SequenceState
    draft: Draft
    first: int
    """SequenceState of the logits after the branch's last token; those after each drafted one follow."""

    def children(self) -> dict[int, list[int]]:
        """Drafted tokens by parent, -1 standing for the row's last token."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.draft.parents):
            children.setdefault(parent, []).append(node)
        return children


@dataclass(frozen=True, slots=True)
class Verification:
    """What a row gets from a pass."""

    accepted: tuple[int, ...]
    """Nodes of the draft, from the top down."""
    tokens: tuple[int, ...]
    """The accepted tokens and one more, which is the target's own."""


class Verifier(ABC):
    """Turns claims into verdicts, one for each."""

    name: str

    @abstractmethod
    def verify(self, claims: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """None for a branch whose logits are not finite (a broken model)."""
