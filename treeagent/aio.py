"""Structured concurrency: await several things as one, and leave nothing running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_AT_ONCE = 0.02
"""Seconds for which the loop waits for a thread, so that short calls keep the order of everything."""


async def gather(awaitables: Iterable[Awaitable[T]], *, deferred: type[Exception] | None = None) -> list[T]:
    """Await all at once; results in order.

    The first failure, or a cancellation, cancels the others and is raised once all have ended. An error of the class
    ``deferred`` does not cancel the others: it is raised once they have ended, unless one of them failed otherwise.
    """
    futures = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    classes = () if deferred is None else (deferred,)
    try:
        return list(await asyncio.gather(*futures))
    except classes:
        await raise_failures(futures, *classes)
        raise
    finally:
        await cancel(futures)


async def raise_failures(futures: Sequence[asyncio.Future[Any]], deferred: type[Exception]) -> None:
    """Wait until all have ended; raise the first exception that is not of the class ``deferred``."""
    for outcome in await asyncio.gather(*futures, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, deferred):
            raise outcome


async def cancel(futures: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    for future in futures:
        future.cancel()
    if futures:
        await asyncio.wait(futures)
        for future in futures:
            if not future.cancelled():
                future.exception()  # retrieved, or asyncio logs it; the first failure has been raised already


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns or raises, run in a thread of its own, so that the loop goes on if it takes long.

    A call that is cancelled ends on its own, and nobody waits for it: not even the end of the process.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # a cancelled wait must not cancel the outcome, which the thread sets
    context = copy_context()

    def work() -> None:
        try:
            result = context.run(function, *arguments)
        except BaseException as error:  # noqa: BLE001  raised again where it is awaited
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=work, name=f"treeagent {function.__name__}", daemon=True).start()
    try:
        return outcome.result(timeout=_AT_ONCE)
    except FutureTimeoutError:
        if outcome.done():  # the function's own, or just in time
            return outcome.result()
    return await asyncio.wrap_future(outcome)
