"""An event loop with a clock of its own, for measurements and tests that no other program may disturb."""

from __future__ import annotations

import asyncio
import selectors


class IdleSelector(selectors.DefaultSelector):
    """Does not wait for timers: where nothing can be done, its time jumps to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; without a timeout, as no timer runs, it waits."""
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready if ready or timeout is not None else super().select(None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything can be done, and then jumps to the next timer."""

    def __init__(self) -> None:
        self._idle = IdleSelector()
        super().__init__(self._idle)

    def time(self) -> float:
        """Seconds of this loop."""
        return self._idle.now


async def units(number: float) -> None:
    """Let so much of the loop's time pass."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(number, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
