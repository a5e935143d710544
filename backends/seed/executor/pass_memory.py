"""The memory of a device that the graphs of one size of passes read, and that each pass is written to by one copy."""

from __future__ import annotations

import numpy as np
import torch

from ..kernels.transfers import transfers_of
from .forward_batch import ForwardBatch
from .sent_batch import contents, over


class PassMemory:
    """For passes of T tokens with tiles; layers with rows of their own have a second table, and a copy for it."""

    def __init__(self, padding: ForwardBatch, integers: int, device: torch.device) -> None:
        """For passes as large as ``padding``, one of nothing else, and tables of at most so many ``integers``."""
        tokens, tables = padding.tokens.shape[1], 1 if padding.by_row is None else 2
        self._shape, self._device = (3 + tables, tokens), device
        self._wide = 8 * (3 + tables) * tokens
        """Bytes of all but the tables."""
        self._table = 4 * integers
        self._block = torch.zeros(self._wide + self._table * tables, dtype=torch.uint8, device=device)
        own = self._block[: self._wide].view(torch.int64).view(self._shape)
        ids, positions, slots, self._wanted, *rows = own.unbind(0)
        held = self._block[self._wide :].view(torch.int32).view(tables, integers).unbind(0)
        self._views = (ids[None], positions[None], slots, *rows, *held)
        self.plan = self.fill(padding)
        """The pass that was written last; what graphs are recorded over has its tensors, but for those wanted."""

    def fill(self, plan: ForwardBatch) -> ForwardBatch:
        """Write a pass that was padded on the host; the result is good until the next one is written."""
        ids, positions, slots, wanted, *rest = contents(plan)
        rows, tables = rest[: len(rest) // 2], [table.numpy() for table in rest[len(rest) // 2 :]]
        transfers = transfers_of(self._device)
        room = transfers.room(self._wide + sum(table.nbytes for table in tables))
        host = room.numpy()
        numbers = host[: self._wide].view(np.int64).reshape(self._shape)
        for place, part in enumerate((ids[0], positions[0], slots)):
            numbers[place] = part.numpy()
        numbers[3] = 0
        numbers[3, : len(wanted)] = wanted.numpy()
        for place, part in enumerate(rows, 4):
            numbers[place] = part.numpy()
        begin, there = 0, 0
        end = self._wide
        for place, table in enumerate(tables):
            host[end : end + table.nbytes] = table.view(np.uint8)
            end += table.nbytes
            transfers.send(room[begin:end], self._block[there : there + end - begin])
            begin, there = end, self._wide + (place + 1) * self._table
        ids, positions, slots, *held = self._views
        self.plan = over(plan, [ids, positions, slots, self._wanted[: len(wanted)], *held])
        return self.plan

    def holds(self, plan: ForwardBatch) -> bool:
        """Whether a pass is the one that was written last; none that was written before may be run."""
        assert plan is self.plan or plan.slots is not self.plan.slots  # noqa: S101  # it would read another's numbers
        return plan is self.plan
