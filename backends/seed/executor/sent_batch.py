"""A pass that was put together on the host, on its device: everything that it reads goes there in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..kernels.transfers import HostTransfers, send_arrays, transfers_of
from .forward_batch import ForwardBatch


def sent(plan: ForwardBatch, device: torch.device) -> ForwardBatch:
    """The pass, which has tiles, on a device."""
    transfers = transfers_of(device)
    if isinstance(transfers, HostTransfers):
        return plan
    return over(plan, send_arrays([tensor.numpy() for tensor in contents(plan)], device, transfers))


def contents(plan: ForwardBatch) -> list[torch.Tensor]:
    """What a pass with tiles reads: 64-bit tokens, positions, slots, wanted and rows, and 32-bit tables."""
    assert plan.tiles is not None  # noqa: S101  # others are made where they are used
    own = [plan.tokens, plan.positions, plan.slots, plan.wanted]
    if (by_row := plan.by_row) is None:
        return [*own, plan.tiles.tables]
    assert by_row.tiles is not None  # noqa: S101  # the same
    return [*own, by_row.slots, plan.tiles.tables, by_row.tiles.tables]


def over(plan: ForwardBatch, tensors: Sequence[torch.Tensor]) -> ForwardBatch:
    """The pass over other tensors, in the order of :func:`contents`."""
    assert plan.tiles is not None  # noqa: S101  # see contents
    tokens, positions, slots, wanted, *rest = tensors
    by_row = plan.by_row
    if by_row is not None:
        assert by_row.tiles is not None  # noqa: S101  # the same
        row, table, row_table = rest
        tiles = replace(by_row.tiles, tables=row_table)
        by_row = replace(by_row, tokens=tokens, positions=positions, slots=row, wanted=wanted, tiles=tiles)
    else:
        [table] = rest
    tiles = replace(plan.tiles, tables=table)
    return replace(plan, tokens=tokens, positions=positions, slots=slots, wanted=wanted, tiles=tiles, by_row=by_row)
