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
        plain = [i for i, check in enumerate(checks) if not check.draft.tokens]
        first = [checks[i].first for i in plain]
        own = sample_target([checks[i].row for i in plain], first, [0] * len(plain), logits)
        for i, token in zip(plain, own, strict=True):
            verifications[i] = None if token is None else Verification((), (token,))
        walking = [i for i, check in enumerate(checks) if check.draft.tokens]
        children = {i: checks[i].children() for i in walking}
        accepted: dict[int, list[int]] = {i: [] for i in walking}
        tokens: dict[int, list[int]] = {i: [] for i in walking}
        while walking:  # one turn per level: the choices of all branches that got this far are made together
            chosen = sample_target(
                [checks[i].row for i in walking],
                [self._at(checks[i], accepted[i]) for i in walking],
                [len(tokens[i]) for i in walking],
                logits,
            )
            next_walking: list[int] = []
            for i, token in zip(walking, chosen, strict=True):
                if token is None:
                    continue
                tokens[i].append(token)
                node = accepted[i][-1] if accepted[i] else -1
                draft = checks[i].draft
                match = next((child for child in children[i].get(node, ()) if draft.tokens[child] == token), None)
                if match is None:
                    verifications[i] = Verification(tuple(accepted[i]), tuple(tokens[i]))
                else:
                    accepted[i].append(match)
                    next_walking.append(i)
            walking = next_walking
        return verifications

    def _at(self, check: DraftCheck, accepted: Sequence[int]) -> int:
        return check.first + (accepted[-1] + 1 if accepted else 0)


def sample_target(
    rows: Sequence[SequenceState], at: Sequence[int], ahead: Sequence[int], logits: Logits
) -> list[int | None]:
    """The target's token for each sequence, from row ``at`` of the logits (R, V) and ``ahead`` tokens after its last.

    None where the logits are not finite.
    """
    best, finite = logits.best()
    if all(row.sampling.temperature == 0 for row in rows) and finite[at].all():
        greedy: list[int | None] = best[at].tolist()
        return greedy
    chosen: list[int | None] = [None] * len(rows)
    sampled = []
    for i, (row, place) in enumerate(zip(rows, at, strict=True)):
        if not finite[place]:
            continue
        if row.sampling.temperature == 0:
            chosen[i] = int(best[place])
        else:
            sampled.append(i)
    if sampled:
        drawn = logits.draw(
            [at[i] for i in sampled],
            [rows[i].sampling for i in sampled],
            [rows[i].stream for i in sampled],
            [rows[i].position + ahead[i] for i in sampled],
        )
        for i, token in zip(sampled, drawn.tolist(), strict=True):
            chosen[i] = token
    return chosen
