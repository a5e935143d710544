"""Modes in memory, which outlast one plan where several are carried out in turn."""

from __future__ import annotations

import gc

import torch

from ...seed.executor.weights import WeightCache
from .base import ModeRunner
from .generate import Networks


class LoadedModes:
    """Runners by mode and type of numbers, and the networks that transformers' own modes share."""

    def __init__(self, device: torch.device) -> None:
        self.networks = Networks(device)
        self.shelf = WeightCache()
        """Models of the engine's modes."""
        self._runners: dict[tuple[str, str], ModeRunner] = {}

    def get(self, name: str, dtype: str) -> ModeRunner | None:
        """The runner of a mode; None when there is none."""
        return self._runners.get((name, dtype))

    def keep(self, name: str, dtype: str, runner: ModeRunner) -> None:
        """Hold a runner until it is dropped or all are closed."""
        self._runners[name, dtype] = runner

    def drop(self, name: str, dtype: str) -> None:
        """Close a runner and forget it; nothing happens when there is none."""
        if (runner := self._runners.pop((name, dtype), None)) is not None:
            runner.close()

    def close(self, *, networks: bool = True) -> None:
        """Close all runners and, with ``networks``, forget the networks."""
        for name, dtype in list(self._runners):
            self.drop(name, dtype)
        if networks:
            self.networks.clear()
            gc.collect()
