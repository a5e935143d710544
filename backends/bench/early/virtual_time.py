"""An event loop with a clock of its own, for measurements and tests that no other program may disturb."""

from __future__ import annotations

import asyncio
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything can be done, and then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            ready = select(0)
            if not ready and timeout:
                self._now += timeout
            return ready if ready or timeout is not None else select(None)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        """Seconds of this loop."""
        return self._now


async def units(number: float) -> None:
    """Let so much of the loop's time pass."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(number, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
