"""Alternating runs of one plan: every mode once a repeat, each repeat beginning with another mode, each from a cold
cache.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from treeagent.display.board import StepBoard
from treeagent.errors import TreeagentError

from ..local import model_thread as worker
from ..models import catalog as models
from ..models.tokenizer import ChatTokenizer, load_tokenizer
from . import equality
from .config.modes import Mode, find
from .config.plan import BenchPlan
from .equality import TokenDifference
from .results.runs import BenchRun, PlanResult
from .runners.base import ModeRunner, Prompt, Tokens
from .runners.pool import RunnerPool

WARM_UP = "Yesterday two herons stood in the shallow end of our pond."
"""Completed once by every mode that has just been loaded; no workload begins like it."""
WARM_TOKENS = 8
"""Tokens generated after it."""


class PlanMeasurement:
    """Carries out a plan. :attr:`result` has all runs so far, also after an interruption.

    With ``keep`` the runners stay in the pool for the next plan.
    """

    def __init__(self, plan: BenchPlan, pool: RunnerPool, progress: StepBoard, *, keep: bool) -> None:
        self.plan = plan
        self._pool = pool
        self._progress = progress
        self._keep = keep
        self._runs: list[BenchRun] = []
        self._reference: tuple[Tokens, ...] | None = None
        self._failure: str | None = None
        self._broken: dict[str, str] = {}
        """Modes that cannot be loaded or run, and why."""

    @property
    def result(self) -> PlanResult:
        """Runs and reference so far."""
        return PlanResult(self.plan, tuple(self._runs), self._reference, self._failure)

    def measure(self) -> None:
        """Run everything. Raises TreeagentError if no mode at all can run; other failures are among the runs."""
        plan = self.plan
        with _threads(plan.settings.threads), _frozen_garbage():
            tokenizer = _tokenizer(plan)
            prompts, warm = _encode(plan.prompts, tokenizer), _encode(plan.warm, tokenizer)
            try:
                if plan.untimed_reference:
                    self._run_reference(prompts)
                for branches, repeat, mode in order(plan):
                    self._runs.append(self._run(mode, prompts[:branches], repeat, warm[:branches], tokenizer))
                    if plan.settings.reopen:
                        self._pool.close()
            except TreeagentError as error:
                self._failure = str(error)
                raise
            finally:
                if self._reference is None and plan.reference is not None:
                    self._reference = self._timed_reference()

    def explained(self, difference: TokenDifference) -> TokenDifference:
        """The difference with the gap between the reference's two best tokens there."""
        if self._reference is None:
            return difference
        plan = self.plan
        prompt = _encode(plan.prompts[: difference.prompt + 1], _tokenizer(plan))[-1]
        before = self._reference[difference.prompt][: difference.position]
        return replace(difference, gap=equality.gap(self._pool.network(), plan, prompt, before))

    def _run_reference(self, prompts: Sequence[Prompt]) -> None:
        plan, dtype = self.plan, self.plan.settings.reference_dtype
        mode = find(plan.reference or "")
        runner, _ = self._pool.get(mode, dtype)
        with self._progress.step(f"reference, untimed: {mode.name} in {dtype}", len(prompts)) as step:
            runner.open()
            runner.cold(plan, ())
            self._reference = runner.run(plan, prompts, step.advance).outputs
        if not self._keep:
            self._pool.close()

    def _timed_reference(self) -> tuple[Tokens, ...] | None:
        """The outputs of the longest timed run of the reference's mode."""
        runs = [run.measurement for run in self._runs if run.mode.name == self.plan.reference]
        return max((run.outputs for run in runs if run is not None), key=len, default=None)

    def _run(
        self, mode: Mode, prompts: Sequence[Prompt], repeat: int, warm: Sequence[Prompt], tokenizer: ChatTokenizer
    ) -> BenchRun:
        plan, branches = self.plan, len(prompts)
        if mode.name in self._broken:
            return BenchRun(mode, branches, repeat, None, self._broken[mode.name])
        title = ", ".join(
            [mode.name]
            + [f"{branches} branches"] * (len(plan.branches) > 1)
            + [f"repeat {repeat + 1} of {len(plan.repeats)}"] * (len(plan.repeats) > 1)
        )
        try:
            with self._progress.step(title, branches) as step:
                runner = self._opened(mode, tokenizer)
                runner.cold(plan, warm)
                gc.collect()  # now, and not while the next mode runs
                measurement = runner.run(plan, prompts, step.advance)
            if plan.scored:
                model, outputs = self._pool.network(), measurement.outputs
                score = worker.run(lambda: equality.score(model, prompts, outputs))
                measurement = replace(measurement, score=score)
        except TreeagentError as error:
            self._broken[mode.name] = str(error)
            self._pool.drop(mode, plan.dtype(mode))
            self._progress.say(f"  {mode.name}: {error}")
            if len(self._broken) == len(plan.modes):
                raise
            return BenchRun(mode, branches, repeat, None, str(error))
        self._progress.say(f"  {measurement.seconds:.2f} s, {measurement.tokens / measurement.seconds:,.1f} tokens/s")
        return BenchRun(mode, branches, repeat, measurement)

    def _opened(self, mode: Mode, tokenizer: ChatTokenizer) -> ModeRunner:
        """The mode's runner, loaded and warmed up."""
        runner, new = self._pool.get(mode, self.plan.dtype(mode))
        if new:
            runner.open()
            runner.cold(self.plan, ())
            runner.run(self.plan, _encode((WARM_UP,), tokenizer), lambda: None, WARM_TOKENS)
        return runner


def order(plan: BenchPlan) -> Iterator[tuple[int, int, Mode]]:
    """Branches, repeat (from 0) and mode of each run in turn; each repeat begins with the next mode."""
    for branches in plan.branches:
        for repeat in plan.repeats:
            first = repeat % len(plan.modes)
            for mode in (*plan.modes[first:], *plan.modes[:first]):
                yield branches, repeat, mode


def _tokenizer(plan: BenchPlan) -> ChatTokenizer:
    return load_tokenizer(models.resolve(plan.settings.model), None if plan.settings.chat else False)


def _encode(texts: Sequence[str], tokenizer: ChatTokenizer) -> list[Prompt]:
    return [Prompt(number, text, tuple(tokenizer.prompt(text))) for number, text in enumerate(texts)]


@contextmanager
def _frozen_garbage() -> Iterator[None]:
    """Keep Python's garbage collector from traversing every imported module during a run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Set torch's thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
