"""How CUDA graphs are recorded, on a stand-in for torch.cuda that notes streams and what waits for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from treeagent.backends.seed.executor import graphs
from treeagent.backends.seed.executor.graphs import CudaGraphs, NoGraphs

DEVICE = torch.device("cuda:1")


class Cuda:
    """Streams by name; a recording that fails leaves its stream in place, as that of torch does."""

    def __init__(self) -> None:
        self.made, self.current, self.fails = 0, "default", False
        self.events: list[tuple[str, ...]] = []
        self.CUDAGraph = lambda: SimpleNamespace(replay=lambda: self.events.append(("replay", self.current)))

    def Stream(self, device: torch.device) -> Any:  # noqa: N802  # torch's name
        assert device == DEVICE
        self.made += 1
        return self._stream(f"own {self.made}")

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.events.append(("wait", name, other.name)))

    def current_stream(self, device: torch.device) -> Any:
        assert device == DEVICE
        return self._stream(self.current)

    def graph_pool_handle(self) -> str:
        return "pool"

    def synchronize(self, device: torch.device) -> None:
        assert device == DEVICE

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, *, pool: str, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        before, self.current = self.current, stream.name
        self.events.append(("begin", stream.name))
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.current = before


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """In place of torch's."""
    fake = Cuda()
    monkeypatch.setattr(graphs, "torch", SimpleNamespace(cuda=fake, Tensor=torch.Tensor, device=torch.device))
    return fake


def test_all_graphs_are_recorded_on_one_stream_of_the_device(cuda: Cuda) -> None:
    """Each after a run on that stream that waits for what was before; they are started on the caller's."""
    backend = CudaGraphs(DEVICE)
    for number in range(2):
        cuda.events.clear()
        result, replay = backend.capture(lambda number=number: cuda.events.append(("work", cuda.current)) or number)
        assert result == number
        assert cuda.events == [
            ("wait", "own 1", "default"), ("work", "own 1"), ("wait", "default", "own 1"), ("begin", "own 1"),
            ("work", "own 1"),
        ]  # fmt: skip
        replay()
        assert cuda.events[-1] == ("replay", "default")
    assert cuda.made == 1


def test_a_recording_that_fails_gives_the_callers_stream_back(cuda: Cuda) -> None:
    """The reason is kept; what runs plainly afterwards is where it was."""
    backend = CudaGraphs(DEVICE)
    cuda.fails = True
    with pytest.raises(NoGraphs, match="not permitted when stream is capturing"):
        backend.capture(lambda: torch.zeros(1))
    assert cuda.current == "default"
