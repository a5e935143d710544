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
        drawn = sample_nodes(checks, logits) if checks and logits.on_device else None
        verifications: list[Verification | None] = [None] * len(checks)
        walking = list(range(len(checks)))
        children = [check.children() for check in checks]
        accepted: list[list[int]] = [[] for _ in checks]
        tokens: list[list[int]] = [[] for _ in checks]
        while walking:  # one turn per level: the choices of all branches that got this far are made together
            at = [checks[i].first + (accepted[i][-1] + 1 if accepted[i] else 0) for i in walking]
            if drawn is None:
                chosen = sample_target([checks[i].row for i in walking], at, [len(tokens[i]) for i in walking], logits)
            else:
                chosen = [drawn[row] for row in at]
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


def sample_nodes(checks: Sequence[DraftCheck], logits: Logits) -> dict[int, int | None]:
    """The target's token at each row of the logits (R, V) that belongs to a node, reached or not, in one launch.

    None where the logits are not finite.
    """
    places: list[int] = []
    positions: list[int] = []
    rows: list[SequenceState] = []
    for check in checks:
        depths = [0]  # by row: after the sequence's last token, and after each node
        for parent in check.draft.parents:
            depths.append(depths[parent + 1] + 1)
        places += range(check.first, check.first + len(depths))
        positions += [check.row.position + depth for depth in depths]
        rows += [check.row] * len(depths)
    drawn = logits.draw(places, [row.sampling for row in rows], [row.stream for row in rows], positions)
    return {place: None if token < 0 else token for place, token in zip(places, drawn.tolist(), strict=True)}


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
