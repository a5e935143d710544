"""The runs of an agent that are going on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """A run, as far as its end is concerned."""

    def stop(self) -> None:
        """End it with its best attempt."""


class RunSet:
    """The runs that are going on, each with the event loop that it runs in."""

    def __init__(self) -> None:
        self._runs: dict[Stoppable, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @contextmanager
    def holding(self, run: Stoppable) -> Iterator[None]:
        """Know a run while it goes on inside."""
        ended = asyncio.Event()
        self._runs[run] = asyncio.get_running_loop(), ended
        try:
            yield
        finally:
            self._runs.pop(run, None)
            ended.set()

    async def aclose(self) -> None:
        """Stop the runs of this event loop, and wait until they have ended."""
        here = asyncio.get_running_loop()
        waiting = [(run, ended) for run, (loop, ended) in list(self._runs.items()) if loop is here]
        for run, _ in waiting:
            run.stop()
        for _, ended in waiting:
            await ended.wait()
