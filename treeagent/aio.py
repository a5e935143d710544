"""Structured concurrency: await several things as one, and leave nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


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
