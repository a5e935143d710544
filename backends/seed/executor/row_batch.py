"""A pass as layers with windows compute it whose keys and values are in rows of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..kv_cache.window_rows import WindowRows
from .forward_batch import ForwardBatch, SharedPrefix, run_of


def with_rows(plan: ForwardBatch, windows: WindowRows) -> ForwardBatch:
    """The pass, and beside it the same one with the row of each token in place of its slot.

    The row of a token that no text sees any more is 0; masks and bounds of the window hide it. Padding goes to the
    scratch.
    """
    new = np.full(len(plan.slots), windows.scratch)  # known on the host: nothing is read from the device
    for span, start in zip(plan.segments, plan.starts, strict=True):
        new[start : start + len(span.slots)] = windows.row_of[span.slots]
    shared = [
        SharedPrefix(
            part.tokens,
            run_of(windows.row_of[part.keys], plan.slots.device)
            if isinstance(part.keys, slice)
            else windows.rows(part.keys),
        )
        for part in plan.shared
    ]
    tiles = plan.tiles
    if tiles is not None and tiles.slots is not None:
        tiles = tiles.over(windows.row_of[tiles.slots])
    own = replace(
        plan,
        slots=torch.from_numpy(new).to(plan.slots.device),
        shared=shared,
        calls=[call.by_row(windows) for call in plan.calls],
        windows=None if plan.windows is None else plan.windows.by_row(windows),
        tiles=tiles,
    )
    return replace(plan, by_row=own)
