"""Structured concurrency: await several things as one, and leave nothing running."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


_at_once: ContextVar[float] = ContextVar("at_once", default=0.1)
"""Seconds for which the loop waits for a thread, so that short calls keep the order of everything."""
_BUSY = 0.25
"""Seconds of work after which the loop gets a turn."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within it loops wait so long for a thread, for those whose own time must not pass meanwhile."""
    token = _at_once.set(seconds)
    try:
        yield
    finally:
        _at_once.reset(token)


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


class Pace:
    """Lets timers and Ctrl-C through between pieces of work, and work that takes long go on beside the loop.

    Short work keeps the order of everything: the loop gets a turn only where much of it has come together.
    """

    def __init__(self) -> None:
        self._busy = 0.0

    async def spent(self, seconds: float) -> None:
        """To be called after work that has held up the loop for so long."""
        self._busy += seconds
        if self._busy > _BUSY:
            self._busy = 0.0
            await asyncio.sleep(0)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
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

        began = time.monotonic()
        threading.Thread(target=work, name=f"treeagent {function.__name__}", daemon=True).start()
        wait([outcome], timeout=_at_once.get())
        await self.spent(time.monotonic() - began)
        return outcome.result() if outcome.done() else await asyncio.wrap_future(outcome)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What a function that blocks returns or raises, for tools and environments.

    Unlike ``asyncio.to_thread``, nobody waits for a call that is cancelled, not even the end of the process.
    """
    return await Pace().in_thread(function, *arguments)
