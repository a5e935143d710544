"""The contract of verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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

    def rows(self, verification: Verification) -> list[int]:
        """Row of the logits that each token of its verification was drawn from."""
        if not verification.accepted:
            return [self.first]
        return [self.first, *(self.first + 1 + node for node in verification.accepted)]


class Verification(NamedTuple):
    """The result of one sequence's verification."""

    accepted: tuple[int, ...]
    """Accepted nodes of the draft, from the top down."""
    tokens: tuple[int, ...]
    """The accepted tokens and one more of the target's."""
    logprobs: tuple[float, ...] | None = None
    """Their natural-log probabilities, untempered; None where they were not computed beside them."""


def log_probabilities(
    checks: Sequence[DraftCheck], verifications: Sequence[Verification | None], logits: Logits
) -> list[Sequence[float]]:
    """For each verification the natural-log probability of each of its tokens, untempered; empty for None."""
    unknown = [
        (check, result)
        for check, result in zip(checks, verifications, strict=True)
        if result is not None and result.logprobs is None
    ]
    rows = [row for check, result in unknown for row in check.rows(result)]
    values = iter(logits.log_probabilities(rows, [token for _, result in unknown for token in result.tokens]))
    return [
        () if result is None else result.logprobs or [next(values) for _ in result.tokens] for result in verifications
    ]


class Verifier(ABC):
    """A rule that accepts drafted tokens."""

    name: str

    @abstractmethod
    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """One verification for each draft, None where logits are not finite (a broken model).

        ``logits`` (R, V) of a pass, whose rows the checks point to.
        """
