"""A mode of this package in a process of its own, so that its memory is its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from treeagent.errors import BackendError, TreeagentError

from ...seed.executor.weights import WeightCache
from ..config.modes import Mode
from ..config.plan import BenchPlan, BenchSettings
from ..peers.worker import peak_bytes
from .base import Measurement, ModeRunner, Prompt, Tick
from .families import make_runner
from .generate import Networks


class IsolatedRunner(ModeRunner):
    """Hands every call to a runner in another process."""

    def __init__(self, mode: Mode, settings: BenchSettings, dtype: str, device: torch.device) -> None:
        self._arguments = (mode, settings, dtype, device)
        self._process: Any = None
        self._load_peak: int | None = None

    def open(self) -> None:
        """Start the process, which loads what the mode needs. Raises BackendError."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, *self._arguments), daemon=True)
            self._process.start()
            other.close()
            self._load_peak = self._call("open")

    def cold(self, plan: BenchPlan, warm: Sequence[Prompt]) -> None:
        """Clear caches and tables there. Raises BackendError."""
        self._call("cold", plan, warm)

    def run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts there. Raises BackendError."""
        measurement: Measurement = self._call("run", plan, prompts, max_tokens)
        for _ in prompts:
            tick()
        return replace(measurement, load_peak_bytes=self._load_peak)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(10)
            self._process.kill()
            self._process = None

    def _call(self, name: str, *arguments: Any) -> Any:
        self.open()
        try:
            self._pipe.send((name, arguments))
            result, error = self._pipe.recv()
        except (EOFError, OSError) as failure:
            raise BackendError(f"{self._arguments[0].name}: its process ended before it replied") from failure
        if error is not None:
            raise BackendError(error)
        return result


def _serve(pipe: Connection, mode: Mode, settings: BenchSettings, dtype: str, device: torch.device) -> None:
    """Serve calls until the pipe is closed."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    runner = make_runner(mode, settings, dtype, Networks(device), WeightCache())
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if name == "run":
                plan, prompts, max_tokens = arguments
                result: Any = runner.run(plan, prompts, lambda: None, max_tokens)
                result = replace(result, figures=dict(result.figures))
            else:
                getattr(runner, name)(*arguments)
                result = peak_bytes()
            pipe.send((result, None))
        except TreeagentError as error:
            pipe.send((None, str(error)))
