"""Memory of packed weights on huge pages, where the system has them.

A pass reads every weight once. On pages of 4 KiB the processor looks up tens of thousands of addresses for that, on
pages of 2 MiB about a hundred. Weights of one model share chunks, as most of them are smaller than a huge page.
"""

from __future__ import annotations

import contextlib
import mmap
import sys

import torch

CHUNK = 32 << 20
"""Bytes of a chunk; only what weights fill takes memory."""
ALIGNMENT = 64
"""Bytes of a cache line, at which every weight begins."""


class WeightMemory:
    """Places tensors one after another. A chunk is freed with the last tensor in it."""

    def __init__(self) -> None:
        self._chunk: mmap.mmap | None = None
        self._used = 0

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same numbers, contiguous; where there are no huge pages, in memory of torch's own."""
        size = tensor.numel() * tensor.element_size()
        if sys.platform != "linux" or not size:
            return tensor.contiguous()
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if self._chunk is None or start + size > len(self._chunk):
            self._chunk, start = mmap.mmap(-1, max(CHUNK, size)), 0
            with contextlib.suppress(OSError):  # a kernel without huge pages
                self._chunk.madvise(mmap.MADV_HUGEPAGE)
        self._used = start + size
        placed = torch.frombuffer(self._chunk, dtype=torch.uint8, count=size, offset=start)
        return placed.view(tensor.dtype).view(tensor.shape).copy_(tensor)
