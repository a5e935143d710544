"""How many searches run at a time, and how many requests may wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from .http_errors import HttpError


class SearchQueue:
    """A bounded queue, first come, first served."""

    def __init__(self, at_once: int, waiting: int) -> None:
        """At most ``at_once`` searches run, and at most ``waiting`` requests wait."""
        self.at_once, self.most_waiting = at_once, waiting
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def place(self) -> Iterator[Awaitable[None]]:
        """A place in the queue; what it yields is to be awaited before the search.

        Raises HttpError: 429 at once where the queue is full, 503 where the server ends.
        """
        if self._closed:
            raise _ending()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.running < self.at_once:
            self.running += 1
            turn.set_result(None)
        elif len(self._waiting) < self.most_waiting:
            self._waiting.append(turn)
        else:
            raise HttpError(
                429,
                f"the server is busy: {self.running} searches run and {self.waiting} requests wait; try again later",
                code="queue_full", headers={"Retry-After": "1"},
            )  # fmt: skip
        try:
            yield turn
        finally:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)

    def close(self) -> None:
        """Refuse all that waits, and all that comes."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_ending())

    def _leave(self) -> None:
        """Give the place of a search that has ended to the first that waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1


def _ending() -> HttpError:
    return HttpError(503, "the server ends", code="shutting_down", headers={"Retry-After": "5"})
