"""Runs a coroutine from synchronous code, whether or not an event loop is running here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_in_thread(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine in the loop of a new thread; Ctrl-C cancels it."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Future[Result]]] = Future()

    async def run() -> Result:
        task = asyncio.ensure_future(work())
        started.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1, thread_name_prefix="treeagent-openai") as thread:
        result = thread.submit(lambda: asyncio.run(run()))
        try:
            return result.result()
        finally:
            if not result.done():
                loop, task = started.result()
                loop.call_soon_threadsafe(task.cancel)
