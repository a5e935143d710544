"""Runs an evaluation under its progress board; the first Ctrl-C ends it with all files closed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..runtime import factory
from .eval_progress import EvalBoard

if TYPE_CHECKING:
    from ..evaluation.run import Evaluation


def run(work: Evaluation, *, quiet: bool) -> tuple[float | None, dict[str, Any], bool]:
    """Seconds, the backend's figures, and whether Ctrl-C ended it; None seconds when nothing was left to run."""
    left = [row for row in work.data.rows if row.number not in work.outcomes.done]
    if not left:
        return None, {}, False
    with EvalBoard(len(work.data.rows), list(work.outcomes.known.values()), quiet=quiet) as board:
        work.told = board.count
        agent = work.agent
        for each in dict.fromkeys((agent.backend, agent.judging)):
            each.load()
        figures, began, interrupted = factory.meters(agent.backend, agent.judging), time.monotonic(), False
        try:
            asyncio.run(_stoppable(work))
        except (KeyboardInterrupt, asyncio.CancelledError):
            interrupted = True
        return time.monotonic() - began, figures(), interrupted


async def _stoppable(work: Evaluation) -> None:
    """Cancelled by the first Ctrl-C, so that files are closed; the journals of open problems stay."""
    task = asyncio.ensure_future(work.run())
    with _cancelling(task):
        await task


@contextlib.contextmanager
def _cancelling(task: asyncio.Future[None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except (ValueError, RuntimeError):  # not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
