"""A pass as layers with windows compute it whose keys and values are in rows of their own."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..kv_cache.window_rows import WindowRows
from .forward_batch import ForwardBatch, SharedPrefix, run_of


def with_rows(plan: ForwardBatch, windows: WindowRows) -> ForwardBatch:
    """The pass, and beside it the same one with the row of each token in place of its slot.

    The row of a token that no text sees any more is 0; masks and bounds of the window hide it.
    """
    device = plan.slots.device
    rows = torch.from_numpy(windows.row_of).to(device)
    shared = [
        SharedPrefix(
            part.tokens,
            run_of(windows.row_of[part.keys], device) if isinstance(part.keys, slice) else rows[part.keys],
        )
        for part in plan.shared
    ]
    own = replace(
        plan,
        slots=rows.index_select(0, plan.slots),
        shared=shared,
        calls=[call.by_row(rows) for call in plan.calls],
        windows=None if plan.windows is None else plan.windows.by_row(rows),
        tiles=None if plan.tiles is None else plan.tiles.by_row(rows),
    )
    return replace(plan, by_row=own)
