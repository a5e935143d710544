"""Graphs: the operations of a piece of work on a device, recorded once and started together.

What a graph computes depends on the contents of the tensors that it was recorded over, and on nothing else: their
memory and sizes stay, and the host reads nothing while it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], torch.Tensor]


class NoGraphs(Exception):
    """Graphs cannot be used here; the message says why."""


class GraphBackend(Protocol):
    """Records work on one device."""

    def free_bytes(self) -> int:
        """Memory of the device that nothing uses."""

    def needed_bytes(self, work: Work) -> int:
        """The most memory that the work takes while it runs; runs it."""

    def capture(self, work: Work) -> tuple[torch.Tensor, Callable[[], None]]:
        """The result of the work, and what computes it anew in the same memory. Raises NoGraphs."""


class CudaGraphs:
    """CUDA graphs, whose memory for intermediate results is shared: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        """One for all, of this device: libraries keep memory for each stream that they run on."""

    def free_bytes(self) -> int:
        """See :class:`GraphBackend`; memory that torch keeps for later counts as free."""
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(torch.cuda.mem_get_info(self._device)[0]) + kept

    def needed_bytes(self, work: Work) -> int:
        """See :class:`GraphBackend`."""
        torch.cuda.synchronize(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device)) - before

    def capture(self, work: Work) -> tuple[torch.Tensor, Callable[[], None]]:
        """See :class:`GraphBackend`; the work is run beforehand, because libraries set themselves up at first."""
        here = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(here)
        try:
            with torch.cuda.stream(here):  # where a recording fails, torch.cuda.graph leaves its own stream in place
                with torch.cuda.stream(self._stream):
                    work()
                here.wait_stream(self._stream)
                # other threads may use the device meanwhile
                with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
                    result = work()
        except RuntimeError as error:  # out of memory among them
            torch.cuda.synchronize(self._device)
            raise NoGraphs(" ".join(str(error).split())[:200]) from error
        return result, graph.replay
