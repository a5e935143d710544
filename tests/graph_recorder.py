"""Graphs on a CPU: operations are recorded and run again on the same tensors, as a CUDA graph does.

What a device would do silently wrong is an error here: memory that was freed, moved or changed its size between the
recording and a replay, and values that the host read or made while it recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from treeagent.backends.seed.executor.graphs import NoGraphs

HOST = ("_local_scalar_dense", "lift_fresh", "equal", "nonzero", "item", "is_nonzero")
"""Operations whose result depends on values that the host reads, or that bring values of the host."""


class StaleGraph(Exception):
    """A graph was started over memory that is not what it was recorded over."""


@dataclass(frozen=True)
class _Outside:
    """A tensor that the work reads and did not make."""

    tensor: ref[torch.Tensor]
    address: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Outside:
        return cls(ref(tensor), tensor.data_ptr(), tuple(tensor.shape))

    def get(self) -> torch.Tensor:
        tensor = self.tensor()
        if tensor is None:
            raise StaleGraph(f"a tensor of shape {self.shape} that a graph reads was freed")
        if (tensor.data_ptr(), tuple(tensor.shape)) != (self.address, self.shape):
            raise StaleGraph(
                f"a tensor of shape {self.shape} that a graph reads has been moved, or is {tensor.shape} now"
            )
        return tensor


@dataclass
class _Recording(TorchDispatchMode):  # type: ignore[misc]
    steps: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)
    own: dict[int, torch.Tensor] = field(default_factory=dict)
    """Results by identity; kept alive."""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in HOST:
            raise NoGraphs(f"the host takes part in {func}")
        kept = tree_map(self.outside, (args, kwargs))
        result = func(*args, **kwargs)
        results = [value for value in tree_flatten(result)[0] if isinstance(value, torch.Tensor)]
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        # what was changed in place is not kept alive
        held = [None if any(value is each for each in given) else value for value in results]
        self.own.update((id(value), value) for value in held if value is not None)
        self.steps.append((func, *kept, held))
        return result

    def outside(self, value: Any) -> Any:
        """What is kept of an argument."""
        known = not isinstance(value, torch.Tensor) or id(value) in self.own
        return value if known else _Outside.of(value)

    def launch(self, kernel: Callable[..., None], args: Any, kwargs: Any) -> None:
        """Start a kernel that is no operation of torch, and record that."""
        self.steps.append((kernel, *tree_map(self.outside, (args, kwargs)), []))
        with _disable_current_modes():  # Triton's interpreter copies tensors
            kernel(*args, **kwargs)


class GraphRecorder:
    """A :class:`GraphBackend` of the CPU."""

    def __init__(self, free: int = 2**40) -> None:
        self.free = free
        self.captured = self.replayed = 0
        self.launches = 0
        """What the last recording would start on a device."""
        self.recording: _Recording | None = None

    def free_bytes(self) -> int:
        """As many as were given."""
        return self.free

    def needed_bytes(self, work: Callable[[], torch.Tensor]) -> int:
        """A mebibyte."""
        work()
        return 2**20

    def capture(self, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        """Run and record the work."""
        with _Recording() as recording:
            self.recording = recording
            output = work()
        self.recording = None
        self.launches = sum(_starts(func) for func, *_ in recording.steps)
        self.captured += 1
        return output, lambda: self._replay(recording)

    def _replay(self, recording: _Recording) -> None:
        for func, args, kwargs, results in recording.steps:
            given = tree_map(lambda value: value.get() if isinstance(value, _Outside) else value, (args, kwargs))
            self._store(func(*given[0], **given[1]), results)
        self.replayed += 1

    def _store(self, anew: Any, results: Sequence[torch.Tensor | None]) -> None:
        values = [value for value in tree_flatten(anew)[0] if isinstance(value, torch.Tensor)]
        for value, held in zip(values, results, strict=True):
            if held is not None and value.shape != held.shape:
                raise StaleGraph(f"a result of shape {tuple(held.shape)} is {tuple(value.shape)} now")
            if held is not None and value.data_ptr() != held.data_ptr():
                held.copy_(value)


def _starts(func: Any) -> bool:
    """Whether a recorded step starts something on a device: views, and memory that is taken, do not."""
    if not hasattr(func, "_schema"):
        return True  # a kernel
    name, returned = func.overloadpacket.__name__, [value.alias_info for value in func._schema.returns]
    views = any(info is not None and not info.is_write for info in returned)
    return not views and not name.startswith(("empty", "new_empty", "_unsafe_view", "_reshape_alias"))
