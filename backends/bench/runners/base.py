"""The interface of a mode's runner: load, reset, run prompts and measure the time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config.plan import BenchPlan
from ..peers.worker import peak_bytes, reset_peak

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
    """The result of one run."""

    outputs: tuple[Tokens, ...]
    """In the order of the prompts."""
    seconds: float
    """Wall-clock time, prefill included."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the backend (``Backend.meter``); empty if it has none."""
    peak_bytes: int | None = None
    """Peak resident memory of the process during the run; None where the system cannot tell."""
    load_peak_bytes: int | None = None
    """The same until its model was loaded; None where modes share a process."""
    cpu_seconds: float | None = None
    """Processor time of all threads together. If it is less than ``seconds`` on a CPU, other processes used the
    machine, and the run is unreliable."""
    score: float | None = None
    """Mean over the outputs of their summed natural-log probability under the model; None: not scored."""

    @property
    def tokens(self) -> int:
        """Number of generated tokens."""
        return sum(map(len, self.outputs))


class Stopwatch:
    """Measures time and peak memory since its construction."""

    def __init__(self) -> None:
        self._known = reset_peak()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, Any]:
        """The figures of a :class:`Measurement` that are measured here, by name."""
        seconds, cpu_seconds = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = peak_bytes() if self._known else None
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}


class ModeRunner(ABC):
    """A mode for one model, device and dtype; only :meth:`run` is timed."""

    @abstractmethod
    def open(self) -> None:
        """Load what is needed; nothing happens if it is loaded already. Raises BackendError or ConfigError."""

    def cold(self, plan: BenchPlan, warm: Sequence[Prompt]) -> None:
        """Clear caches and tables; then let drafters learn from ``warm``. Raises BackendError."""

    @abstractmethod
    def run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts with the plan's keys and sampling, and its token limit unless ``max_tokens`` is given.

        Raises BackendError.
        """

    def close(self) -> None:
        """Free what :meth:`open` loaded."""
