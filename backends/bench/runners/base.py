"""What every mode does: get ready, forget, and run prompts against the clock."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config.modes import Mode
from ..config.plan import Plan

Tokens = tuple[int, ...]
"""Token ids that follow a prompt, end-of-text token excluded."""
Tick = Callable[[], None]
"""Called when a prompt is done, as far as a mode can tell."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of a workload."""

    number: int
    text: str
    ids: Tokens


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run brought."""

    outputs: tuple[Tokens, ...]
    """In the order of the prompts."""
    seconds: float
    """Wall-clock time, reading of the prompts included."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The backend's own (``Backend.meter``); empty when it keeps none."""
    cpu_seconds: float | None = None
    """Processor time of all threads together. Where it falls short of ``seconds`` on a CPU, the machine had other
    things to do, and the run says little."""
    score: float | None = None
    """Mean over the outputs of their summed natural-log probability under the model; None where it is not asked."""

    @property
    def tokens(self) -> int:
        """Generated in all."""
        return sum(map(len, self.outputs))


class RunClock:
    """Measures the time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        """Seconds of wall-clock time and of processor time."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


class ModeRunner(ABC):
    """A mode that can run; everything but :meth:`run` is untimed."""

    def __init__(self, mode: Mode, plan: Plan) -> None:
        self.mode = mode
        self.plan = plan
        """Gives the keys of the prompts and the sampling settings."""

    def use(self, plan: Plan) -> None:
        """Take the keys and settings of another plan for the same models, device and dtype."""
        self.plan = plan

    @abstractmethod
    def open(self) -> None:
        """Load what is needed; nothing happens when it is open already. Raises BackendError or ConfigError."""

    def cold(self, warm: Sequence[Prompt]) -> None:
        """Forget earlier prompts, caches and tables; then let drafters learn from ``warm``. Raises BackendError."""

    @abstractmethod
    def run(self, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts, each with the plan's limit or ``max_tokens``. Raises BackendError."""

    def close(self) -> None:
        """Free what :meth:`open` loaded."""
