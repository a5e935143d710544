"""The progress of a benchmark on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

HEARTBEAT = 15.0
"""Seconds between two lines where there is no terminal."""
REDRAWN = 2
"""Bar updates a second: each takes time from what is being measured."""


class StepProgress:
    """Shows steps, one after the other."""

    def __init__(self, console: Console | None = None, *, steps: int | None = None, quiet: bool = False) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._quiet = quiet
        self._done = 0
        self._steps = steps

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str, parts: int | None = None) -> Iterator[Callable[[], None]]:
        """Show a step while it runs; yields a function to call after each of its parts."""
        self._done += 1
        title = f"[{self._done}/{self._steps}] {text}" if self._steps else text
        if self._quiet:
            yield lambda: None
        elif self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            counting = (BarColumn(bar_width=20), MofNCompleteColumn()) if parts else ()
            with Progress(
                *columns, *counting, console=self._console, transient=True, refresh_per_second=REDRAWN
            ) as bar:
                task = bar.add_task(title, total=parts)
                yield lambda: bar.advance(task)
        else:
            with self._lines(title, parts) as tick:
                yield tick

    @contextmanager
    def _lines(self, title: str, parts: int | None) -> Iterator[Callable[[], None]]:
        ended, began, done = threading.Event(), time.monotonic(), [0]

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                count = f", {done[0]} of {parts} done" if parts and done[0] else ""
                self.say(f"{title}: {time.monotonic() - began:.0f} s{count}")

        def tick() -> None:
            done[0] += 1

        self.say(f"{title} ...")
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield tick
        finally:
            ended.set()
            thread.join()
