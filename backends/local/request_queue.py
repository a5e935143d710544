"""Questions from event loops to worker threads, and the answers back: what is awaited together goes together.

Questions of one event loop are collected until a few turns of the loop have brought no new one; no timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")

QUIET_TURNS = 8
"""Turns of the loop without a new question before a batch starts: an answer passes a handful of awaiting coroutines and
gathers, one turn each, before the question that follows from it is asked. A turn costs microseconds."""


@dataclass(slots=True, eq=False)
class PendingRequest(Generic[Question]):
    """A question that somebody awaits the answer of."""

    question: Question
    future: asyncio.Future[Any]
    dropped: bool = False
    """True once nobody waits any more; the worker should stop working on it soon."""

    @property
    def wanted(self) -> bool:
        """Whether anybody can still take the answer; may be asked from any thread."""
        return not self.dropped and not self.future.get_loop().is_closed()

    def answer(self, value: Any) -> None:
        """Deliver the answer; may be called from any thread."""
        self._deliver(self._resolve, value)

    def fail(self, error: BaseException) -> None:
        """Deliver an error; may be called from any thread."""
        self._deliver(self._reject, error)

    def _deliver(self, how: Callable[[Any], None], value: Any) -> None:
        try:
            self.future.get_loop().call_soon_threadsafe(how, value)
        except RuntimeError:  # the loop was closed in the meantime, so nobody can wait for it
            self.dropped = True

    def _resolve(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _reject(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def when_quiet(loop: asyncio.AbstractEventLoop, waiting: list[Any], then: Callable[[], None]) -> None:
    """Call ``then`` as soon as ``waiting`` has not grown for a few turns of the loop."""

    def turn(seen: int, quiet: int) -> None:
        if len(waiting) != seen:
            quiet = 0
        if quiet < QUIET_TURNS:
            loop.call_soon(turn, len(waiting), quiet + 1)
        else:
            then()

    turn(0, 0)


class RequestQueue(Generic[Question]):
    """Hands questions on in lists, as they were asked together; from several loops and threads at once if need be."""

    def __init__(self, submit: Callable[[list[PendingRequest[Question]]], None]) -> None:
        """``submit`` takes tickets over, in the loop's thread, and must not block."""
        self._submit = submit
        self._waiting: dict[asyncio.AbstractEventLoop, list[PendingRequest[Question]]] = {}

    async def ask(self, question: Question) -> Any:
        """The answer to a question; a cancelled caller's question is dropped and hurts no other."""
        loop = asyncio.get_running_loop()
        for closed in [other for other in list(self._waiting) if other.is_closed()]:
            self._waiting.pop(closed, None)
        ticket = PendingRequest(question, loop.create_future())
        if loop in self._waiting:
            self._waiting[loop].append(ticket)
        else:
            waiting = self._waiting[loop] = [ticket]
            when_quiet(loop, waiting, lambda: self._flush(loop))
        try:
            return await ticket.future
        except asyncio.CancelledError:
            ticket.dropped = True
            raise

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if tickets := [ticket for ticket in self._waiting.pop(loop, []) if not ticket.dropped]:
            self._submit(tickets)
