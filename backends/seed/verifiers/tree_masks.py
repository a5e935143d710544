"""Masks of constraints at the nodes of drafts.

The target's law at a node is the masked one, so every rule that keeps the target's law keeps the constrained one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ...local.token_masks import TokenMask
from .base import DraftCheck


def masked_tree(checks: Sequence[DraftCheck], logits: torch.Tensor) -> torch.Tensor:
    """Logits (R, V) with minus infinity for what the constraint of a sequence forbids after each node of its draft.

    A node that is forbidden itself is never accepted, and neither is what follows it: its rows stay.
    """
    rows: list[int] = []
    allowed: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []
    for check in checks:
        if check.row.mask is not None:
            for row, mask in _rows(check, check.row.mask):
                rows.append(row)
                allowed.append(mask.allowed())
    if not rows:
        return logits
    masked, table, at = logits.clone(), np.stack(allowed), np.array(rows)
    few = 2 * np.count_nonzero(table) < table.size
    which, tokens = np.divmod(np.flatnonzero(table if few else ~table), table.shape[1])
    places = tuple(torch.from_numpy(each).to(logits.device) for each in (at[which], tokens))
    if few:  # such as labels: a whole row is filled faster than it is masked
        masked.index_fill_(0, torch.from_numpy(at).to(logits.device), -torch.inf)
        masked[places] = logits[places]
    else:
        masked[places] = -torch.inf
    return masked


def _rows(check: DraftCheck, mask: TokenMask) -> Iterator[tuple[int, TokenMask]]:
    """The rows of logits after allowed texts, and what may follow each."""
    yield check.first, mask
    masks: dict[int, TokenMask] = {-1: mask}
    for node, (token, parent) in enumerate(zip(check.draft.tokens, check.draft.parents, strict=True)):
        before = masks.get(parent)
        after = None if before is None else before.after(token)
        if after is not None:
            masks[node] = after
            yield check.first + 1 + node, after
