"""Coupled verification: draft and target share their noise."""

from __future__ import annotations

from array import array
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
        if not walking:
            return follow_greedy(checks, logits)
        if len(walking) < len(checks):
            greedy = [i for i, check in enumerate(checks) if check.row.sampling.temperature == 0]
            for i, followed in zip(greedy, follow_greedy([checks[i] for i in greedy], logits), strict=True):
                verifications[i] = followed
        if walking and logits.on_device:
            chosen = sample_nodes([checks[i] for i in walking], logits)
            for i in walking:
                verifications[i] = _followed(checks[i], chosen)
        elif walking:
            _walk(checks, logits, walking, verifications)
        return verifications


def follow_greedy(checks: Sequence[DraftCheck], logits: Logits) -> list[Verification | None]:
    """The target's likeliest tokens through each draft, in one call where the kernels can be used."""
    first, sizes, drafted, parents = array("i"), array("i"), array("i"), array("i")
    for check in checks:
        first.append(check.first)
        draft = check.draft
        sizes.append(len(draft.tokens))
        if draft.tokens:
            drafted.extend(draft.tokens)
            parents.extend(draft.parents)
    paths = logits.likeliest_paths(first, sizes, drafted, parents)
    if paths is None:
        best, finite = (column.tolist() for column in logits.best())
        likeliest = [token if known else None for token, known in zip(best, finite, strict=True)]
        return [_followed(check, likeliest) for check in checks]
    found: list[Verification | None] = []
    end = 0
    for check, count in zip(checks, paths.counts, strict=True):
        begin, end = end, end + count
        if count == 0:
            found.append(None)
            continue
        skipped = check.first + 1
        accepted = tuple([row - skipped for row in paths.rows[begin + 1 : end]]) if count > 1 else ()
        found.append(Verification(accepted, tuple(paths.tokens[begin:end]), tuple(paths.logprobs[begin:end])))
    return found


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
