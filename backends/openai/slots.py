"""The requests that are sent at one time: those that a search has asked for first, those that were sent early after.

An early request leaves the last slot free as long as any other is being answered, and starts in an idle client only
once the event loop has nothing more to do. When all slots are taken and another request comes, the early one that is
least likely to be wanted is broken off and sent again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from treeagent import aio
from treeagent.process_fork import ForkSafeLock
from treeagent.request import Request, ScoreRequest

Result = TypeVar("Result")

QUIET_TURNS = 8
"""Turns of the event loop that an idle client waits for another request; a turn takes microseconds."""


class Urgency:
    """How likely it is that the answer to a request is used."""

    def __init__(self, priority: float = 1.0) -> None:
        self.priority = priority
        self._listeners: list[Callable[[], None]] = []

    @property
    def early(self) -> bool:
        """Whether the answer may turn out not to be used."""
        return self.priority < 1

    def listen(self, changed: Callable[[], None]) -> None:
        """Call this after every raise."""
        self._listeners.append(changed)

    def raise_to(self, priority: float) -> None:
        """Take another priority, if that is higher."""
        self.priority = max(self.priority, priority)
        for changed in self._listeners:
            changed()


_current: ContextVar[Urgency | None] = ContextVar("urgency", default=None)


class Urgencies:
    """The urgencies of pending requests that were sent early."""

    def __init__(self) -> None:
        self._early: dict[str, list[Urgency]] = {}
        self._lock = ForkSafeLock()

    @contextmanager
    def serving(self, request: Request | ScoreRequest) -> Iterator[None]:
        """All requests over HTTP from inside, and from tasks that are started inside, are as urgent as this one."""
        if request.priority >= 1:
            yield
            return
        name, urgency = request.id, Urgency(request.priority)
        with self._lock:
            self._early.setdefault(name, []).append(urgency)
        token = _current.set(urgency)
        try:
            yield
        finally:
            _current.reset(token)
            with self._lock:
                self._early[name].remove(urgency)
                if not self._early[name]:
                    del self._early[name]

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """Raise the pending requests of this one's id to its priority."""
        if self._early:  # an id takes a while to work out
            with self._lock:
                raised = list(self._early.get(request.id, ()))
            for urgency in raised:
                urgency.raise_to(request.priority)


class _Turn:
    """One request that has a slot or waits for one."""

    def __init__(self, urgency: Urgency) -> None:
        self.urgency = urgency
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Future[object] | None = None
        self.revoked = False

    def start(self, work: Awaitable[Result]) -> asyncio.Future[Result]:
        """Its work, which can be broken off."""
        task = asyncio.ensure_future(work)
        self.task = task  # type: ignore[assignment]  # futures are invariant
        return task

    def revoke(self) -> None:
        """Break it off."""
        self.revoked = True
        if self.task is not None:
            self.task.cancel()


class Slots:
    """The slots of one event loop."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._running: list[_Turn] = []
        self._waiting: list[_Turn] = []
        self._quiet = 0  # turns of the loop since a slot was used
        self._counting = False

    async def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of work that has a slot meanwhile; early work may be broken off and begin anew."""
        urgency = _current.get() or Urgency()
        if urgency.early:
            urgency.listen(self._serve)
        while True:
            turn = _Turn(urgency)
            self._waiting.append(turn)
            self._serve()
            try:
                await turn.granted
                if turn.revoked:
                    continue
                if not urgency.early:
                    return await work()
                task = turn.start(work())
                try:
                    await asyncio.wait({task})
                finally:
                    if not task.done():
                        await aio.cancel([task])
                if not (task.cancelled() and turn.revoked):
                    return task.result()
            finally:
                (self._waiting if turn in self._waiting else self._running).remove(turn)
                self._quiet = 0
                self._serve()

    def _serve(self) -> None:
        """Give out free slots, and take one back where a request waits that has been asked for."""
        while (turn := self._next()) is not None:
            self._waiting.remove(turn)
            self._running.append(turn)
            if not turn.granted.done():
                turn.granted.set_result(None)

    def _next(self) -> _Turn | None:
        """The waiting request that a slot may go to now."""
        free = self._count - len(self._running)
        certain = next((turn for turn in self._waiting if not turn.urgency.early), None)
        early = max(self._waiting, key=lambda turn: turn.urgency.priority, default=None)
        if certain is not None:
            if free <= 0:
                self._revoke(sum(not turn.urgency.early for turn in self._waiting))
            return certain if free > 0 else None
        if early is None or free <= 0:
            return None
        if any(not turn.urgency.early for turn in self._running):
            return early if free > 1 else None
        if self._quiet >= QUIET_TURNS:
            return early
        if not self._counting:
            self._counting = True
            self._count_turns()
        return None

    def _revoke(self, wanted: int) -> None:
        """Break off so many early requests, less those that are being broken off."""
        wanted -= sum(turn.revoked for turn in self._running)
        early = [turn for turn in self._running if turn.urgency.early and not turn.revoked]
        for turn in sorted(early, key=lambda turn: turn.urgency.priority)[: max(0, wanted)]:
            turn.revoke()

    def _count_turns(self) -> None:
        """Serve an early request when the loop has been quiet for a while."""
        if self._quiet < QUIET_TURNS:
            self._quiet += 1
            asyncio.get_running_loop().call_soon(self._count_turns)
        else:
            self._counting = False
            self._serve()
