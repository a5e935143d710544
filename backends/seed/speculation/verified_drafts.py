"""What a pass shows of drafts to drafters that learn from the target's likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ..drafters.base import VerifiedDraft
from ..executor.logits import Logits
from ..verifiers.base import DraftCheck, Verification


def verified_drafts(
    checks: Sequence[DraftCheck], verifications: Sequence[Verification | None], logits: Logits, count: int
) -> list[VerifiedDraft]:
    """For each sequence with finite logits the ``count`` likeliest tokens after each verified one."""
    best, chances = logits.top(count)  # (R, count)
    verified = []
    for check, verification in zip(checks, verifications, strict=True):
        if verification is not None:
            at = slice(check.first, check.first + 1 + len(check.draft))
            verified.append(VerifiedDraft(check.row, check.draft, verification.tokens, best[at], chances[at]))
    return verified
