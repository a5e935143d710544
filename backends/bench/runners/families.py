"""The runner of each family of modes that this package runs itself."""

from __future__ import annotations

from ...seed.executor.weights import WeightCache
from ..config.modes import Mode
from ..config.plan import BenchSettings
from .backend import backend_runner
from .base import ModeRunner
from .continuous import ContinuousRunner
from .generate import GenerateRunner, Networks


def make_runner(
    mode: Mode, settings: BenchSettings, dtype: str, networks: Networks, weights: WeightCache
) -> ModeRunner:
    """A runner that loads its model from ``networks`` or ``weights``, which others may share."""
    if mode.family in ("plain", "seed"):
        return backend_runner(mode, settings, dtype, weights)
    family = ContinuousRunner if mode.family == "continuous" else GenerateRunner
    return family(mode, settings, networks, dtype)
