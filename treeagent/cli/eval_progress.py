"""Progress of an evaluation: a bar on a terminal, a line now and then elsewhere, both on standard error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..evaluation.outcomes import Outcome
from .arguments import say

EVERY = 10.0
"""Seconds between two lines."""


class EvalBoard:
    """Shows how many problems are done, right and failed while it is entered."""

    def __init__(self, whole: int, known: Sequence[Outcome], *, quiet: bool) -> None:
        self._whole, self._quiet = whole, quiet
        self._done = {outcome.number: outcome for outcome in known}
        self._said = time.monotonic()
        self._began = time.monotonic()
        self._tokens = 0
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), console=console,
            )  # fmt: skip

    def __enter__(self) -> EvalBoard:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._text(), total=self._whole, completed=self._finished())
        elif not self._quiet:
            say(f"{self._finished()} of {self._whole} problems are done already" if self._done else "loading")
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def count(self, outcome: Outcome) -> None:
        """One more."""
        self._done[outcome.number] = outcome
        self._tokens += outcome.completion_tokens or 0
        if self._bar is not None:
            self._bar.update(self._task, description=self._text(), completed=self._finished())
        elif not self._quiet and (time.monotonic() > self._said + EVERY or self._finished() == self._whole):
            self._said = time.monotonic()
            say(f"{self._finished()} of {self._whole} problems: {self._text()}")

    def _finished(self) -> int:
        return sum(outcome.error is None for outcome in self._done.values())

    def _text(self) -> str:
        right = sum(bool(outcome.right) for outcome in self._done.values())
        failed = sum(outcome.error is not None for outcome in self._done.values())
        seconds = time.monotonic() - self._began
        pace = f", {self._tokens / seconds:,.0f} generated tokens/s" if self._tokens and seconds > 0 else ""
        return f"{right} right" + (f", {failed} failed" if failed else "") + pace
