"""Runners in memory, shared by all plans of a grid."""

from __future__ import annotations

import gc

import torch

from ...models.model import Model
from ...seed.executor.weights import WeightCache
from ..config.modes import PEER, Mode
from ..config.plan import BenchSettings
from .base import ModeRunner
from .families import make_runner
from .generate import Networks
from .isolated import IsolatedRunner
from .peer import PeerRunner


class RunnerPool:
    """Runners by mode and dtype, and the networks that transformers' modes share."""

    def __init__(self, settings: BenchSettings, device: torch.device) -> None:
        self._settings = settings
        self._networks = Networks(device)
        self._weights = WeightCache()
        self._runners: dict[tuple[str, str], ModeRunner] = {}

    def get(self, mode: Mode, dtype: str) -> tuple[ModeRunner, bool]:
        """The runner of a mode, and whether it was just made."""
        new = (mode.name, dtype) not in self._runners
        if new:
            self._runners[mode.name, dtype] = self._make(mode, dtype)
        return self._runners[mode.name, dtype], new

    def network(self) -> Model:
        """The model in the dtype of the reference, for scores and gaps. Raises ModelError."""
        return self._networks.get(self._settings.model, self._settings.reference_dtype)

    def drop(self, mode: Mode, dtype: str) -> None:
        """Close a runner and remove it; nothing happens if there is none."""
        if (runner := self._runners.pop((mode.name, dtype), None)) is not None:
            runner.close()

    def close(self, *, networks: bool = True) -> None:
        """Close all runners and, with ``networks``, drop the networks."""
        while self._runners:
            self._runners.popitem()[1].close()
        if networks:
            self._networks.clear()
            gc.collect()

    def _make(self, mode: Mode, dtype: str) -> ModeRunner:
        if mode.family == PEER:
            return PeerRunner(mode, self._settings, dtype, self.network)
        if self._settings.isolate:
            return IsolatedRunner(mode, self._settings, dtype, self._networks.device)
        return make_runner(mode, self._settings, dtype, self._networks, self._weights)
