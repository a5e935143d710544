"""What a constraint says of drafts: tokens that it all but forces, and drafted ones that it forbids."""

from __future__ import annotations

from dataclasses import replace

from ...local.token_masks import TokenMask
from ..records import Draft, SequenceState


def constrained_draft(row: SequenceState, draft: Draft, spare: int) -> Draft:
    """The draft of a sequence with a constraint; it has at most ``spare`` more nodes than before.

    Forced tokens (those of the text that every allowed text goes on with) stand first, with the confidence 1. They are
    verified like all others: the text may be cut into tokens in another way. Of a chosen draft what is forbidden is
    left out. A drawn one, of which nothing may be chosen by what it is, is given whole or, beside forced tokens, not.
    """
    if row.mask is None:
        return draft
    forced = row.mask.forced()[: max(0, min(row.room, spare))]
    if draft.law is not None:
        return _chain(forced) if forced else draft
    merged = replace(_chain(forced), by=draft.by)
    place = {(parent, token): node for node, (parent, token) in enumerate(zip(merged.parents, forced, strict=True))}
    nodes: dict[int, tuple[int, TokenMask]] = {-1: (-1, row.mask)}
    for node, (token, parent) in enumerate(zip(draft.tokens, draft.parents, strict=True)):
        if parent not in nodes:
            continue
        above, mask = nodes[parent]
        if (after := mask.after(token)) is None:
            continue
        if (above, token) not in place:
            place[above, token] = len(merged)
            merged.tokens.append(token)
            merged.parents.append(above)
            merged.confidence.append(draft.confidence[node])
        nodes[node] = (place[above, token], after)
    return merged


def _chain(tokens: list[int]) -> Draft:
    return Draft(list(tokens), list(range(-1, len(tokens) - 1)), [1.0] * len(tokens), forced=len(tokens))
