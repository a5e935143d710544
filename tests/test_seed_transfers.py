"""Copies between host and device: pinned, in one piece for each pass, waited for by an event; few bytes come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from graph_recorder import GraphRecorder
from test_seed_graphs import SIZES, TRIAL, folders, quiet, runner  # noqa: F401  # a fixture
from test_seed_sliding import network

from treeagent.backends.seed.executor.graph_setup import set_up_graphs
from treeagent.backends.seed.executor.logits import Logits, likeliest
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.sent_batch import contents, over
from treeagent.backends.seed.executor.trial_pass import TrialPass, trial_segments
from treeagent.backends.seed.kernels import transfers
from treeagent.backends.seed.kernels.transfers import CudaTransfers, HostTransfers, send_arrays

DEVICE = torch.device("cuda:1")

pytestmark = pytest.mark.usefixtures("short_tiles")


@dataclass
class Cuda:
    """A device that copies when somebody waits for it, and not before."""

    todo: list[Any] = field(default_factory=list)

    def memory(self, value: Any = None, *, pinned: bool = False) -> Any:
        """What can be copied; the host's has to be pinned."""

        def copy(source: Any, *, non_blocking: bool) -> None:
            assert non_blocking
            assert pinned or source.pinned
            self.todo.append(lambda: setattr(own, "value", source.value))

        own = SimpleNamespace(value=value, pinned=pinned, shape=(1,), dtype=None, copy_=copy)
        return own

    def empty(self, shape: Any, *, dtype: Any, pin_memory: bool) -> Any:
        return self.memory(pinned=pin_memory)

    def event(self) -> Any:
        """It is reached after what was begun before it was recorded."""

        def record(stream: str) -> None:
            assert stream == f"current of {DEVICE}"
            own.before = len(self.todo)

        def synchronize() -> None:
            done, self.todo = self.todo[: own.before], self.todo[own.before :]
            for each in done:
                each()

        own = SimpleNamespace(record=record, synchronize=synchronize)
        return own


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """In place of torch's."""
    fake = Cuda()
    names = SimpleNamespace(Event=fake.event, current_stream=lambda device: f"current of {device}")
    monkeypatch.setattr(transfers, "torch", SimpleNamespace(empty=fake.empty, uint8=None, cuda=names))
    return fake


def test_nothing_is_waited_for_but_what_is_fetched(cuda: Cuda) -> None:
    """What is sent arrives later; what is fetched has arrived, and everything before it."""
    own = CudaTransfers(DEVICE)
    room, there = own.room(8), cuda.memory("old")
    room.value = "new"
    own.send(room, there)
    assert there.value == "old"
    assert own.fetch(cuda.memory(7)).value == 7
    assert there.value == "new"
    own.send(room, there)
    own.wait()
    assert not cuda.todo


def test_arrays_of_all_kinds_go_in_one_copy() -> None:
    """With their shapes, kinds and numbers, empty ones too."""
    counted = Counted()
    arrays = [np.arange(3), np.ones((2, 2), np.int32), np.zeros(0, np.int64), np.array([[0.5]]), np.arange(9)[::2]]
    sent = send_arrays(arrays, torch.device("cpu"), counted)
    for array, tensor in zip(arrays, sent, strict=True):
        assert np.array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == array.dtype
    assert len(counted.sent) == 1


class Counted(HostTransfers):
    """Notes what is copied, and that nobody writes to what was sent before it has arrived."""

    def __init__(self) -> None:
        self.sent: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.fetched: list[int] = []
        self.waits = 0

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """See :class:`HostTransfers`."""
        super().send(source, target)
        self.sent.append((source, source.clone()))

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """See :class:`HostTransfers`."""
        self.fetched.append(tensor.nbytes)
        return tensor.clone()

    def wait(self) -> None:
        """See :class:`HostTransfers`."""
        assert all(torch.equal(source, then) for source, then in self.sent)
        self.waits += 1


@pytest.mark.parametrize("family", [None, "Qwen2"])
def test_a_pass_by_graphs_is_one_copy_to_the_device_and_none_back(
    folders: tuple[str, str],  # noqa: F811  # the fixture
    tmp_path: Path,
    family: str | None,
) -> None:
    """Two where layers have rows of their own; one event is waited for."""
    own = runner(folders[0] if family is None else network(family, tmp_path))
    own = ModelRunner(own.weights, 10**6, rows=True)
    assert set_up_graphs(own, GraphRecorder(), quiet, SIZES) is None
    counted = Counted()
    with pytest.MonkeyPatch.context() as patch, trial_segments(own, TRIAL) as segments:
        for name in ("send", "fetch", "wait"):
            patch.setattr(transfers.transfers_of(own.device), name, getattr(counted, name))
        own.forward(segments)
    assert (len(counted.sent), counted.fetched, counted.waits) == (1 if family is None else 2, [], 1)


def test_the_memory_of_a_size_holds_one_pass(folders: tuple[str, str]) -> None:  # noqa: F811  # the fixture
    """One that was written before another of its size is refused; its numbers are gone."""
    own = runner(folders[0])
    assert set_up_graphs(own, GraphRecorder(), quiet, SIZES) is None
    assert own.graphs is not None
    with torch.inference_mode(), trial_segments(own, TRIAL) as segments:
        first = own.batch(segments)
        own.graphs(first, own.forest.pool)
        own.batch(segments)
        with pytest.raises(AssertionError):
            own.graphs(first, own.forest.pool)


def test_what_a_pass_reads_is_all_that_it_has_tensors_of(tmp_path: Path) -> None:
    """A pass over other tensors of the same numbers has the same logits; over zeros it has others."""
    own = ModelRunner(runner(network("Qwen2", tmp_path)).weights, 10**6, rows=True)
    own.weights.tile_queries = 2
    with torch.inference_mode(), trial_segments(own, TrialPass(2, private=8, nodes=2)) as segments:
        plan = own.batch(segments)
        parts = contents(plan)
        assert len(parts) == 7
        moved = over(plan, [part.clone() for part in parts])
        assert contents(moved)[5].data_ptr() != parts[5].data_ptr()
        assert [torch.equal(a, b) for a, b in zip(contents(moved), parts, strict=True)] == [True] * 7


def test_the_likeliest_tokens_come_back_as_one_number_a_row() -> None:
    """The host's tokens, and which rows are not finite."""
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    logits[2, 7], logits[4] = torch.nan, -torch.inf
    counted = Counted()
    ids, finite = likeliest(logits, counted)
    expected = Logits(logits).best()
    assert finite.tolist() == expected[1].tolist() == [True, True, False, True, False, True]
    assert ids[finite].tolist() == expected[0][finite].tolist()
    assert counted.fetched == [8 * 6]
