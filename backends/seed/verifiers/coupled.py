"""Coupled verification: draft and target share their noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..executor.logits import Logits
from ..records import SequenceState
from .base import DraftCheck, Verification, Verifier


class Coupled(Verifier):
    """Follow the target's own tokens through the draft; any drafts, trees and tables included."""

    name = "coupled"

    def verify(self, checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
        """See :class:`Verifier`."""
        verifications: list[Verification | None] = [None] * len(checks)
        walking = [i for i, check in enumerate(checks) if check.row.sampling.temperature > 0]
        if len(walking) < len(checks):
            best, finite = (column.tolist() for column in logits.best())
            likeliest = [token if known else None for token, known in zip(best, finite, strict=True)]
            for i, check in enumerate(checks):
                if check.row.sampling.temperature == 0:
                    verifications[i] = _followed(check, likeliest)
        if walking and logits.on_device:
            chosen = sample_nodes([checks[i] for i in walking], logits)
            for i in walking:
                verifications[i] = _followed(checks[i], chosen)
        elif walking:
            _walk(checks, logits, walking, verifications)
        return verifications


def _walk(
    checks: Sequence[DraftCheck], logits: Logits, walking: Sequence[int], found: list[Verification | None]
) -> None:
    """Fill in ``found`` of sampled sequences, by the target's tokens at the nodes that are reached and no others."""
    finite = logits.best()[1].tolist()
    children = {i: checks[i].children() for i in walking}
    accepted: dict[int, list[int]] = {i: [] for i in walking}
    tokens: dict[int, list[int]] = {i: [] for i in walking}
    while walking:  # one turn per level: the choices of all branches that got this far are made together
        at = [checks[i].first + (accepted[i][-1] + 1 if accepted[i] else 0) for i in walking]
        live = [(i, place) for i, place in zip(walking, at, strict=True) if finite[place]]
        drawn = _drawn([(checks[i].row, place, len(tokens[i])) for i, place in live], logits)
        further = []
        for (i, _), token in zip(live, drawn, strict=True):
            tokens[i].append(token)
            node = accepted[i][-1] if accepted[i] else -1
            draft = checks[i].draft
            match = next((child for child in children[i].get(node, ()) if draft.tokens[child] == token), None)
            if match is None:
                found[i] = Verification(tuple(accepted[i]), tuple(tokens[i]))
            else:
                accepted[i].append(match)
                further.append(i)
        walking = further


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


def _followed(check: DraftCheck, chosen: Mapping[int, int | None] | Sequence[int | None]) -> Verification | None:
    """The target's tokens through a draft, by the token of each row of the logits; None where one reached has none."""
    draft = check.draft
    following: dict[tuple[int, int], int] = {}
    for child, link in enumerate(zip(draft.parents, draft.tokens, strict=True)):
        following.setdefault(link, child)
    accepted: list[int] = []
    tokens: list[int] = []
    node: int | None = -1
    while node is not None:
        token = chosen[check.first + 1 + node]
        if token is None:
            return None
        tokens.append(token)
        node = following.get((node, token))
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
