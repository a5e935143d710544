"""Progress of a known amount of work, on standard error: a bar on a terminal, lines elsewhere.

``StepBoard`` shows steps one after the other, each with a number of parts; evaluations and benchmarks build on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 10.0
"""Seconds between two lines, at least, where there is no terminal."""
REDRAW_RATE = 2
"""Redraws of a bar per second; each takes some time from the work that is measured."""


class Ticker:
    """Calls a function periodically in a thread of its own."""

    def __init__(self, tick: Callable[[], None], seconds: float) -> None:
        self._tick, self._seconds = tick, seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ticker:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop the thread."""
        self.stop()

    def start(self) -> None:
        """Start the thread."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="treeagent-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._tick()


@dataclass(slots=True)
class BoardStep:
    """One step of the work; ``advance`` and ``show`` are called as it proceeds."""

    title: str
    parts: int | None
    """Parts of the step; None where their number is unknown."""
    completed: int = 0
    detail: str = ""
    """What to show beside the count."""
    on_change: Callable[[], None] | None = None
    began: float = field(default_factory=time.monotonic)

    def advance(self, parts: int = 1) -> None:
        """Count finished parts."""
        self.show(self.completed + parts, self.detail)

    def show(self, completed: int, detail: str) -> None:
        """Set the number of finished parts and the text beside it."""
        self.completed, self.detail = completed, detail
        if self.on_change is not None:
            self.on_change()

    @property
    def line(self) -> str:
        """The step in one line."""
        count = f", {self.completed} of {self.parts} done" if self.parts and self.completed else ""
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.title}: {time.monotonic() - self.began:.0f} s{count}{detail}"


class StepBoard:
    """Shows the steps of a piece of work, one after the other; shows nothing when ``quiet``."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False, steps: int | None = None) -> None:
        if console is None:
            from rich.console import Console

            console = Console(stderr=True)
        self._console, self._quiet = console, quiet
        self._begun = 0
        self._steps = steps

    def expect(self, steps: int) -> None:
        """Set the number of steps, which then appears in their titles."""
        self._steps = steps

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str, parts: int | None = None, completed: int = 0) -> Iterator[BoardStep]:
        """Show a step while the context is open."""
        self._begun += 1
        step = BoardStep(f"[{self._begun}/{self._steps}] {title}" if self._steps else title, parts, completed)
        if self._quiet:
            yield step
        elif self._console.is_terminal:
            with self._bar(step):
                yield step
        else:
            self.say(f"{step.title} ...")
            with Ticker(lambda: self.say(step.line), EVERY):
                yield step

    @contextmanager
    def _bar(self, step: BoardStep) -> Iterator[None]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        counting = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn()) if step.parts else ()
        detail = TextColumn("{task.fields[detail]}", markup=False)
        with Progress(
            *columns, *counting, detail, console=self._console, transient=True, refresh_per_second=REDRAW_RATE
        ) as bar:
            task = bar.add_task(step.title, total=step.parts, completed=step.completed, detail="")
            step.on_change = lambda: bar.update(task, completed=step.completed, detail=step.detail)
            yield
