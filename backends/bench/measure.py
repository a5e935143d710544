"""Alternating runs: every mode once a repeat, each repeat beginning with another mode, each run from a cold cache."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from treeagent.errors import ConfigError, TreeagentError, did_you_mean

from ..local import model_thread
from ..local.base import find_device
from ..models import catalog
from ..models.loader import DTYPES
from ..models.tokenizer import ChatTokenizer, load_tokenizer
from . import equality
from .config.modes import Mode, find
from .config.plan import Plan
from .equality import TokenDifference
from .progress import BenchProgress
from .runners.backend import backend_runner
from .runners.base import Measurement, ModeRunner, Prompt, Tokens
from .runners.continuous import ContinuousRunner
from .runners.generate import GenerateRunner
from .runners.pool import LoadedModes

WARM_UP = "Yesterday two herons stood in the shallow end of our pond."
"""Completed once by every mode that has just been loaded; no workload begins like it."""
WARM_TOKENS = 8
"""Tokens generated after it."""


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One timed run of one mode, or its failure."""

    mode: Mode
    branches: int
    repeat: int
    measurement: Measurement | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the tokens themselves, but for a digest of them."""
        told: dict[str, Any] = {"mode": self.mode.name, "branches": self.branches, "repeat": self.repeat}
        if self.measurement is None:
            return {**told, "error": self.error}
        return {
            **told,
            "seconds": self.measurement.seconds,
            "cpu_seconds": self.measurement.cpu_seconds,
            "score": self.measurement.score,
            "tokens": self.measurement.tokens,
            "digest": digest(self.measurement.outputs),
            "figures": dict(self.measurement.figures),
        }


class Bench:
    """Carries out a plan. What has been measured is in ``runs`` also when it was interrupted.

    With ``loaded`` modes stay in memory for the next plan, and whoever gave it closes it.
    """

    def __init__(self, plan: Plan, board: BenchProgress, loaded: LoadedModes | None = None) -> None:
        if plan.dtype not in DTYPES:
            raise ConfigError(f"no dtype is called {plan.dtype!r}.{did_you_mean(plan.dtype, DTYPES)}")
        for model in (plan.model, plan.draft):
            if model is not None:
                catalog.check_name(model)
        self.plan = plan
        self.runs: list[BenchRun] = []
        self.reference: tuple[Tokens, ...] | None = None
        """The reference's tokens for all prompts, or for the first of them; None when nothing is compared."""
        self.device = find_device(plan.device)
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        """What else the machine did before the first run: processes that ran or waited in the last minute."""
        self._board = board
        self._keeps = loaded is not None and not plan.reopen
        self._loaded = loaded or LoadedModes(self.device)
        self._broken: dict[str, str] = {}
        """Modes that cannot be loaded, and why."""

    def measure(self) -> None:
        """Run everything. Raises TreeagentError when no mode at all can run; other failures are among the runs."""
        plan = self.plan
        with _threads(plan.threads), _little_garbage():
            text = load_tokenizer(catalog.resolve(plan.model), None if plan.chat else False)
            prompts, warm = _read(plan.prompts, text), _read(plan.warm, text)
            rounds = list(order(plan))
            self._board.expect(self.steps)
            try:
                if self._needs_reference:
                    self._make_reference(prompts)
                for branches, repeat, mode in rounds:
                    self.runs.append(self._run(mode, prompts[:branches], repeat, warm[:branches], text))
                    if plan.reopen:
                        self._loaded.close()
            finally:
                self._adopt_reference()
                if not self._keeps:
                    self._loaded.close(networks=plan.reopen)

    def explained(self, found: TokenDifference) -> TokenDifference:
        """The difference with the gap between the reference's two best tokens there."""
        if self.reference is None:
            return found
        plan = self.plan
        text = load_tokenizer(catalog.resolve(plan.model), None if plan.chat else False)
        prompt = _read(plan.prompts[: found.prompt + 1], text)[-1]
        model = self._loaded.networks.get(plan.model, plan.reference_dtype)
        before = self.reference[found.prompt][: found.position]
        return replace(found, gap=equality.gap(model, plan, prompt, before))

    @property
    def steps(self) -> int:
        """Runs, the reference's included."""
        plan = self.plan
        return len(plan.branches) * plan.repeat * len(plan.modes) + self._needs_reference

    @property
    def _needs_reference(self) -> bool:
        """Whether the reference is no timed run."""
        plan = self.plan
        timed = plan.dtype == plan.reference_dtype and any(mode.name == plan.reference for mode in plan.modes)
        return plan.reference is not None and not timed

    def _make_reference(self, prompts: Sequence[Prompt]) -> None:
        plan = self.plan
        mode = find(plan.reference or "")
        runner = self._held(mode, plan.reference_dtype) or self._made(mode, plan.reference_dtype)
        title = f"reference, untimed: {mode.name} in {plan.reference_dtype}"
        with self._board.step(title, len(prompts)) as tick:
            runner.open()
            runner.cold(())
            self.reference = runner.run(prompts, tick).outputs
        if not self._keeps:
            self._loaded.close()

    def _adopt_reference(self) -> None:
        """Take the reference from the timed runs, the longest of them."""
        if self.reference is None and self.plan.reference is not None:
            done = [
                run.measurement
                for run in self.runs
                if run.mode.name == self.plan.reference and run.measurement is not None
            ]
            self.reference = max((measurement.outputs for measurement in done), key=len, default=None)

    def _run(
        self, mode: Mode, prompts: Sequence[Prompt], repeat: int, warm: Sequence[Prompt], text: ChatTokenizer
    ) -> BenchRun:
        plan = self.plan
        if mode.name in self._broken:
            return BenchRun(mode, len(prompts), repeat, None, self._broken[mode.name])
        title = ", ".join(
            [mode.name]
            + [f"{len(prompts)} branches"] * (len(plan.branches) > 1)
            + [f"repeat {repeat + 1} of {plan.repeat}"] * (plan.repeat > 1)
        )
        try:
            with self._board.step(title, len(prompts)) as tick:
                runner = self._opened(mode, text)
                runner.cold(warm)
                gc.collect()  # now, and not while the next mode runs
                measurement = runner.run(prompts, tick)
            if plan.scored:
                model = self._loaded.networks.get(plan.model, plan.reference_dtype)
                measurement = replace(
                    measurement, score=model_thread.run(lambda: equality.score(model, prompts, measurement.outputs))
                )
        except TreeagentError as error:
            self._broken[mode.name] = str(error)
            self._loaded.drop(mode.name, plan.dtype)
            self._board.say(f"  {mode.name}: {error}")
            if len(self._broken) == len(plan.modes):
                raise
            return BenchRun(mode, len(prompts), repeat, None, str(error))
        self._board.say(f"  {measurement.seconds:.2f} s, {measurement.tokens / measurement.seconds:,.1f} tokens/s")
        return BenchRun(mode, len(prompts), repeat, measurement)

    def _opened(self, mode: Mode, text: ChatTokenizer) -> ModeRunner:
        """The mode's runner, loaded and warmed up."""
        if (found := self._held(mode, self.plan.dtype)) is not None:
            return found
        runner = self._made(mode, self.plan.dtype)
        runner.open()
        [warm_up] = _read((WARM_UP,), text)
        runner.cold(())
        runner.run([warm_up], lambda: None, WARM_TOKENS)
        return runner

    def _held(self, mode: Mode, dtype: str) -> ModeRunner | None:
        """The mode's runner if it is in memory, for this plan."""
        runner = self._loaded.get(mode.name, dtype)
        if runner is not None:
            runner.use(self.plan)
        return runner

    def _made(self, mode: Mode, dtype: str) -> ModeRunner:
        runner = self._runner(mode, dtype)
        self._loaded.keep(mode.name, dtype, runner)
        return runner

    def _runner(self, mode: Mode, dtype: str) -> ModeRunner:
        if mode.family in ("plain", "seed"):
            return backend_runner(mode, self.plan, dtype, self._loaded.shelf)
        family = ContinuousRunner if mode.family == "continuous" else GenerateRunner
        return family(mode, self.plan, self._loaded.networks, dtype)


def order(plan: Plan) -> Iterator[tuple[int, int, Mode]]:
    """Branches, repeat (from 0) and mode of each run in turn; each repeat begins with the next mode."""
    for branches in plan.branches:
        for repeat in range(plan.repeat):
            first = repeat % len(plan.modes)
            for mode in (*plan.modes[first:], *plan.modes[:first]):
                yield branches, repeat, mode


def digest(outputs: Sequence[Tokens]) -> str:
    """Of token ids; equal digests mean equal tokens."""
    return hashlib.blake2b(json.dumps([list(tokens) for tokens in outputs]).encode(), digest_size=12).hexdigest()


def _read(prompts: Sequence[str], text: ChatTokenizer) -> list[Prompt]:
    return [Prompt(number, prompt, tuple(text.prompt(prompt))) for number, prompt in enumerate(prompts)]


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep Python's garbage collector from looking through every imported module in the middle of a run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
