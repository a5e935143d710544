"""Random passes over rows of layers with windows, for the Triton kernel of attention; :mod:`triton_cases` uses it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from treeagent.backends.seed.executor.forward_batch import ForwardBatch
from treeagent.backends.seed.executor.row_batch import with_rows
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.window_rows import WindowRows


def over_rows(plan: ForwardBatch, pool: SlotPool, case: dict[str, Any]) -> tuple[ForwardBatch, SlotPool]:
    """The pass over rows of layers with windows, taken in any order, and their memory, where unused rows are NaN.

    What no new token sees is given back. Wrong twins: the numbers of slots remain (``slots``), a row too many is given
    back for each text (``few``).
    """
    chance, kinds = np.random.default_rng(case["seed"]), [(heads, dim) for heads, _, dim in case["kinds"]]
    windows = WindowRows(kinds, [case["window"]] * len(kinds), pool.entries[0].dtype, plan.slots.device)
    windows.address(pool.capacity)
    used = np.unique(np.concatenate([part for span in plan.segments for part in (span.context, span.slots)]))
    for part in np.array_split(chance.permutation(used), 7):
        windows.take(part)
    seen = [windows.seen(span.context)[case["rows"] == "few" :] for span in plan.segments]
    windows.sweep([*seen, *(span.slots for span in plan.segments)])
    slots = np.flatnonzero(windows.row_of)
    for entries, rows in zip(pool.entries, windows.entries, strict=True):
        rows[1:] = torch.nan
        rows[windows.row_of[slots]] = entries[slots]
    by_row = with_rows(plan, windows).by_row
    assert by_row is not None
    if case["rows"] == "slots":
        by_row = replace(by_row, tiles=plan.tiles)
    own = SlotPool(kinds, pool.entries[0].dtype, plan.slots.device, 1)
    own.entries = windows.entries
    return by_row, own
