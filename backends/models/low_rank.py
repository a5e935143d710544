"""Low-rank changes of linear layers (LoRA, Hu et al., arXiv 2106.09685), added to products with shared weights.

A layer's output becomes W x + s B A x, with A (r, in), B (out, r) and a scale s. The weights W are not changed, so that
several adapters, and the model without one, run over one set of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The change of one layer, or of several side by side that have the same input."""

    down: torch.Tensor
    """A (r, in)."""
    up: torch.Tensor
    """s B (out, r)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        """The same numbers in another type, on another device."""
        return LowRank(self.down.to(device, dtype), self.up.to(device, dtype))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the outputs (..., out) for ``x`` (..., in)."""
        return (x @ self.down.t()) @ self.up.t()


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The changes of a model's layers."""

    where: Path
    layers: Mapping[str, LowRank]
    """By the layer's path in the network, such as ``model.layers.0.self_attn.q_proj``."""

    @property
    def ranks(self) -> list[int]:
        """The ranks of all layers."""
        return [len(low.down) for low in self.layers.values()]

    def to(self, device: torch.device, dtype: torch.dtype) -> Adapter:
        """The same numbers in another type, on another device."""
        return Adapter(self.where, {path: low.to(device, dtype) for path, low in self.layers.items()})


def join(parts: Sequence[LowRank | None], outs: Sequence[int]) -> LowRank | None:
    """The change of layers side by side, which have ``outs`` outputs each; None where none of them is changed.

    A's stand one below the other, B's in blocks on the diagonal.
    """
    changed = [part for part in parts if part is not None]
    if not changed:
        return None
    down = torch.cat([part.down for part in changed])  # (sum of r, in)
    up = down.new_zeros(sum(outs), len(down))
    row = column = 0
    for part, count in zip(parts, outs, strict=True):
        if part is not None:
            rank = len(part.down)
            up[row : row + count, column : column + rank] = part.up
            column += rank
        row += count
    return LowRank(down, up)


def linear_shapes(network: nn.Module) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the linear layers of a network, by path."""
    return {path: shape for path, module in network.named_modules() if (shape := _shape(module)) is not None}


def _shape(module: Any) -> tuple[int, int] | None:
    sizes = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if isinstance(sizes[0], int) and isinstance(sizes[1], int):  # also layers of libraries of quantised weights
        return sizes[0], sizes[1]
    if type(module).__name__ == "Conv1D":  # GPT-2's linear layers in transformers
        return int(module.weight.shape[1]), int(module.weight.shape[0])
    return None


@contextmanager
def attached(modules: Mapping[str, nn.Module], adapter: Adapter | None) -> Iterator[None]:
    """Let the layers of a network compute with an adapter; without one nothing is changed.

    ``modules`` are those of the network by path, and may be others than they were when the network was loaded.
    """
    with ExitStack() as hooks:
        for path, low in ({} if adapter is None else adapter.layers).items():
            hooks.enter_context(_Hooked(modules[path], low))
        yield


class _Hooked:
    """A module whose outputs are changed as long as the context lasts."""

    def __init__(self, module: nn.Module, low: LowRank) -> None:
        self._module, self._low = module, low

    def __enter__(self) -> None:
        self._handle = self._module.register_forward_hook(self._add)

    def __exit__(self, *_error: object) -> None:
        self._handle.remove()

    def _add(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + self._low(inputs[0])
