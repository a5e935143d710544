"""The one thread in which models run.

OpenMP keeps a team of threads for every thread that computes; as soon as teams together outnumber the cores, they sleep
and wake at every product instead of waiting ready (measured: passes of 30 ms took 40). So all models run in one thread,
and two backends of one process do not slow each other down.

A forked process has none of its parent's threads, so it starts one of its own. Backends that were idle at the fork go
on there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

_executor: ThreadPoolExecutor | None = None
_creation = threading.Lock()
_thread = threading.local()


def executor() -> ThreadPoolExecutor:
    """The thread, as an executor of one; the first use starts it."""
    global _executor  # noqa: PLW0603  # one for the process
    with _creation:
        if _executor is None:
            _executor = ThreadPoolExecutor(1, thread_name_prefix="treeagent-models", initializer=_begin)
        return _executor


def submit(function: Callable[[], Result]) -> Future[Result]:
    """Run a function in the thread, in turn. Raises RuntimeError when Python is shutting down."""
    return executor().submit(function)


async def submit_async(function: Callable[[], Result]) -> Result:
    """The result of a function run in the thread, in turn. Raises RuntimeError when Python is shutting down."""
    return await asyncio.wrap_future(submit(function))


def run(function: Callable[[], Result]) -> Result:
    """The result of a function run in the thread; called at once when this is the thread."""
    return function() if getattr(_thread, "runs_models", False) else submit(function).result()


def _begin() -> None:
    _thread.runs_models = True


def _forget() -> None:
    """Forget the thread of the parent of this process, and a lock that it may have held."""
    global _executor, _creation  # one of each for the process
    _executor, _creation = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
