"""Hands out texts in the task that asked for them, so that none comes after that task was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from treeagent import aio
from treeagent.reply import OnText, Partial, Reply


async def deliver(work: Callable[[OnText], Awaitable[Reply]], on_text: OnText) -> Reply:
    """The reply of work, whose texts are handed out here.

    The tasks that write them learn of a cancellation some turns of the loop later than this one.
    """
    texts: asyncio.Queue[Partial | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(texts.put_nowait))
    task.add_done_callback(lambda _: texts.put_nowait(None))
    try:
        while (text := await texts.get()) is not None:
            on_text(text)
            await asyncio.sleep(0)  # a cancellation comes between
        return await task
    finally:
        await aio.cancel([task])
