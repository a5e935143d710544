"""Coupled verification: draft and target share their noise."""

from __future__ import annotations

from collections.abc import Sequence

from ..executor.logits import Logits
from ..records import SequenceState
from .base import DraftCheck, Verification, Verifier


class Coupled(Verifier):
    """Follow the target's own tokens through the draft; any drafts, trees and tables included."""

    name = "coupled"

    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """See :class:`Verifier`."""
        verifications: list[Verification | None] = [None] * len(checks)
        walking: list[int] = []
        best, finite = (column.tolist() for column in logits.best())
        for i, check in enumerate(checks):
            if check.row.sampling.temperature == 0:
                verifications[i] = _followed(check, best, finite)
            else:
                walking.append(i)
        children = {i: checks[i].children() for i in walking}
        accepted: dict[int, list[int]] = {i: [] for i in walking}
        tokens: dict[int, list[int]] = {i: [] for i in walking}
        while walking:  # one turn per level: the choices of all branches that got this far are made together
            at = [checks[i].first + (accepted[i][-1] + 1 if accepted[i] else 0) for i in walking]
            live = [(i, place) for i, place in zip(walking, at, strict=True) if finite[place]]
            drawn = _drawn([(checks[i].row, place, len(tokens[i])) for i, place in live], logits)
            walking = []
            for (i, _), token in zip(live, drawn, strict=True):
                tokens[i].append(token)
                node = accepted[i][-1] if accepted[i] else -1
                draft = checks[i].draft
                match = next((child for child in children[i].get(node, ()) if draft.tokens[child] == token), None)
                if match is None:
                    verifications[i] = Verification(tuple(accepted[i]), tuple(tokens[i]))
                else:
                    accepted[i].append(match)
                    walking.append(i)
        return verifications


def _followed(check: DraftCheck, best: Sequence[int], finite: Sequence[bool]) -> Verification | None:
    """The target's likeliest tokens through a draft, by the likeliest of each row; None where a row is not finite."""
    draft, place = check.draft, check.first
    if not draft.tokens:
        return Verification((), (best[place],)) if finite[place] else None
    following: dict[tuple[int, int], int] = {}
    for child, link in enumerate(zip(draft.parents, draft.tokens, strict=True)):
        following.setdefault(link, child)
    accepted: list[int] = []
    tokens: list[int] = []
    node: int | None = -1
    while node is not None:
        place = check.first + 1 + node
        if not finite[place]:
            return None
        tokens.append(best[place])
        node = following.get((node, best[place]))
        if node is not None:
            accepted.append(node)
    return Verification(tuple(accepted), tuple(tokens))


def _drawn(walks: Sequence[tuple[SequenceState, int, int]], logits: Logits) -> list[int]:
    """The target's token of sampled sequences: (sequence, row of the logits (R, V), tokens after its last)."""
    if not walks:
        return []
    drawn: list[int] = logits.draw(
        [place for _, place, _ in walks],
        [row.sampling for row, _, _ in walks],
        [row.stream for row, _, _ in walks],
        [row.position + ahead for row, _, ahead in walks],
    ).tolist()
    return drawn
