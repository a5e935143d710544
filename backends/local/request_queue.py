"""Requests from event loops to worker threads, and the replies back: what is awaited together goes together.

Requests of one event loop are collected until a few turns of the loop have brought no new one; no timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from treeagent.process_fork import ForkSafeLock
from treeagent.reply import OnText
from treeagent.request import Request, ScoreRequest

RequestType = TypeVar("RequestType", bound=Request | ScoreRequest)

QUIET_TURNS = 8
"""Turns of the loop without a new request before a batch starts: a reply passes a handful of awaiting coroutines and
gathers, one turn each, before the request that follows from it is made. A turn costs microseconds."""


@dataclass(slots=True, eq=False)
class PendingRequest(Generic[RequestType]):
    """A request and the future of its reply."""

    request: RequestType
    future: asyncio.Future[Any]
    on_text: OnText | None = None
    """Receives texts as they grow, in the loop's thread; None where the request is not streamed."""
    priority: float = field(init=False)
    """As of the request, until it is raised."""
    texts: dict[int, str] = field(default_factory=dict)
    """What was handed out of each completion; used by the thread that hands out."""
    _cancelled: bool = False

    def __post_init__(self) -> None:
        self.priority = self.request.priority

    @property
    def early(self) -> bool:
        """Whether its reply may turn out not to be used."""
        return self.priority < 1

    @property
    def remaining(self) -> float | None:
        """See :attr:`treeagent.request.Request.remaining`."""
        return self.request.remaining

    def raise_to(self, priority: float) -> None:
        """Serve it like one of this priority, if that is higher."""
        self.priority = max(self.priority, priority)

    def is_wanted(self) -> bool:
        """Whether the reply is still awaited; may be called from any thread."""
        return not self._cancelled and not self.future.get_loop().is_closed()

    def answer(self, value: Any) -> None:
        """Deliver the reply; may be called from any thread."""
        self._deliver(self._resolve, value)

    def fail(self, error: BaseException) -> None:
        """Deliver an error; may be called from any thread."""
        self._deliver(self._reject, error)
        self.cancel()

    def cancel(self) -> None:
        """The reply is not awaited any more; work on it should end soon."""
        self._cancelled = True

    def _deliver(self, how: Callable[[Any], None], value: Any) -> None:
        try:
            self.future.get_loop().call_soon_threadsafe(how, value)
        except RuntimeError:  # the loop was closed in the meantime
            self.cancel()

    def _resolve(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _reject(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def when_quiet(loop: asyncio.AbstractEventLoop, waiting: Sized, then: Callable[[], None]) -> None:
    """Call ``then`` as soon as ``waiting`` has not grown for a few turns of the loop."""

    def turn(seen: int, quiet: int) -> None:
        if len(waiting) != seen:
            quiet = 0
        if quiet < QUIET_TURNS:
            loop.call_soon(turn, len(waiting), quiet + 1)
        else:
            then()

    turn(0, 0)


class EarlyQueue(Generic[RequestType]):
    """Pending requests that were sent early, by their ids; may be used from any thread."""

    def __init__(self) -> None:
        self._pending: dict[str, list[PendingRequest[RequestType]]] = {}
        self._lock = ForkSafeLock()

    @contextmanager
    def holding(self, pending: PendingRequest[RequestType]) -> Iterator[None]:
        """Know a request, if it is early, as long as its reply is awaited inside."""
        if not pending.early:
            yield
            return
        name = pending.request.id
        with self._lock:
            self._pending.setdefault(name, []).append(pending)
        try:
            yield
        finally:
            with self._lock:
                self._pending[name].remove(pending)
                if not self._pending[name]:
                    del self._pending[name]

    def raise_priority(self, request: Request | ScoreRequest) -> bool:
        """Raise the pending requests of this one's id to its priority; whether there are any."""
        if not self._pending:
            return False  # an id takes a while to work out
        with self._lock:
            raised = list(self._pending.get(request.id, ()))
        for pending in raised:
            pending.raise_to(request.priority)
        return bool(raised)

    def loops(self) -> set[asyncio.AbstractEventLoop]:
        """The open event loops that await such requests."""
        with self._lock:
            loops = {pending.future.get_loop() for same in self._pending.values() for pending in same}
        return {loop for loop in loops if not loop.is_closed()}


class _Requests:
    """How many requests of a loop wait to be submitted."""

    def __init__(self, waiting: Mapping[asyncio.AbstractEventLoop, Sized], loop: asyncio.AbstractEventLoop) -> None:
        self._waiting, self._loop = waiting, loop

    def __len__(self) -> int:
        return len(self._waiting.get(self._loop, ()))


class RequestQueue(Generic[RequestType]):
    """Submits requests in lists, as they were made together; from several loops and threads at once if need be."""

    def __init__(self, submit: Callable[[list[PendingRequest[RequestType]]], None]) -> None:
        """``submit`` takes requests over, in the loop's thread, and must not block."""
        self._submit = submit
        self._waiting: dict[asyncio.AbstractEventLoop, list[PendingRequest[RequestType]]] = {}
        self.early: EarlyQueue[RequestType] = EarlyQueue()

    async def ask(self, request: RequestType, on_text: OnText | None = None) -> Any:
        """The reply to a request; a cancelled caller's request is dropped without effect on any other."""
        loop = asyncio.get_running_loop()
        for closed in [other for other in list(self._waiting) if other.is_closed()]:
            self._waiting.pop(closed, None)
        pending = PendingRequest(request, loop.create_future(), on_text)
        if loop in self._waiting:
            self._waiting[loop].append(pending)
        else:
            waiting = self._waiting[loop] = [pending]
            when_quiet(loop, waiting, lambda: self._flush(loop))
        with self.early.holding(pending):
            try:
                return await pending.future
            except asyncio.CancelledError:
                pending.cancel()
                raise

    def call_when_quiet(self, then: Callable[[], None]) -> bool:
        """Call ``then`` in each loop that awaits early requests, as soon as it has no more to do; False without one.

        May be called from any thread.
        """
        called = False
        for loop in self.early.loops():
            try:
                loop.call_soon_threadsafe(when_quiet, loop, _Requests(self._waiting, loop), then)
            except RuntimeError:  # it was closed in the meantime
                continue
            called = True
        return called

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if requests := [pending for pending in self._waiting.pop(loop, []) if pending.is_wanted()]:
            self._submit(requests)
