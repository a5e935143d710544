"""Copies between the host and its device: from and to pinned memory, and waiting for them alone.

A copy from memory that is not pinned makes the host wait until the device has done all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

ALIGNED = 16
"""Bytes to whose multiples arrays of one copy are aligned."""


class Transfers(Protocol):
    """Copies of one device, each in the order of what the device computes."""

    def room(self, size: int) -> torch.Tensor:
        """Bytes (size,) of the host to send from; what is in them stays until they have arrived, if nobody writes."""

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy from :meth:`room` to the device, without waiting for it."""

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the host; waits for it."""

    def wait(self) -> None:
        """Wait until the device has done what it was told so far."""


class CudaTransfers:
    """Those of a CUDA device, on its current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def room(self, size: int) -> torch.Tensor:
        """See :class:`Transfers`; torch gives pinned memory out again once the copies from it are done."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """See :class:`Transfers`."""
        target.copy_(source, non_blocking=True)

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """See :class:`Transfers`."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        self.wait()
        return host

    def wait(self) -> None:
        """See :class:`Transfers`; other streams, on which other models may run, are not waited for."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        event.synchronize()


class HostTransfers:
    """Where the device is the host."""

    def room(self, size: int) -> torch.Tensor:
        """See :class:`Transfers`."""
        return torch.empty(size, dtype=torch.uint8)

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """See :class:`Transfers`."""
        target.copy_(source)

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """See :class:`Transfers`."""
        return tensor

    def wait(self) -> None:
        """See :class:`Transfers`."""


@cache
def transfers_of(device: torch.device) -> Transfers:
    """The copies to and from a device."""
    return CudaTransfers(device) if device.type == "cuda" else HostTransfers()


def send_arrays(
    arrays: Sequence[NDArray[Any]], device: torch.device, transfers: Transfers | None = None
) -> list[torch.Tensor]:
    """Arrays as tensors on a device, all of them in one copy."""
    transfers = transfers_of(device) if transfers is None else transfers
    ends = np.cumsum([-(-array.nbytes // ALIGNED) * ALIGNED for array in arrays])
    block = transfers.room(int(ends[-1]))
    there = torch.empty(len(block), dtype=torch.uint8, device=device)
    views = []
    for begin, array in zip([0, *ends[:-1].tolist()], arrays, strict=True):
        part = slice(begin, begin + array.nbytes)
        flat = np.ascontiguousarray(array)
        block.numpy()[part] = flat.reshape(-1).view(np.uint8)
        views.append(there[part].view(torch.from_numpy(flat).dtype).view(array.shape))
    transfers.send(block, there)
    return views
