"""What is awaited together runs together: an asyncio queue in front of a blocking function.

Questions of one event loop are collected until a few turns of the loop have brought no new one (no timers), then run
as one batch in a worker thread; while a batch runs, new questions wait for its end. Nothing is left running when no
question is pending. Several loops, one after the other or at once in several threads, may share one batcher.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from treeagent.errors import BackendError, TreeagentError

Question = TypeVar("Question")

QUIET_TURNS = 8
"""Turns of the loop without a new question before a batch starts: an answer passes a handful of awaiting coroutines and
gathers, one turn each, before the question that follows from it is asked. A turn costs microseconds."""


@dataclass(slots=True, eq=False)
class Ticket(Generic[Question]):
    """A question that somebody awaits the answer of."""

    question: Question
    future: asyncio.Future[Any]
    dropped: bool = False
    """True once nobody waits any more; the worker should stop working on it soon."""

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


@dataclass(slots=True, eq=False)
class _Lane(Generic[Question]):
    """What one event loop waits for; touched by that loop's thread only."""

    waiting: list[Ticket[Question]] = field(default_factory=list)
    busy: bool = False
    """Whether a batch is being collected or run."""


class Batcher(Generic[Question]):
    """Answers questions by calling ``run`` with a list of tickets in a worker thread, one batch at a time.

    ``run`` answers or fails every ticket; an exception that it raises fails those that are left, as BackendError.
    """

    def __init__(self, run: Callable[[list[Ticket[Question]]], None], who: str) -> None:
        self._run = run
        self._who = who
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane[Question]] = {}
        self._one_batch = threading.Lock()

    async def ask(self, question: Question) -> Any:
        """The answer to a question; a cancelled caller's question is dropped and hurts no other."""
        loop = asyncio.get_running_loop()
        for other in [other for other in list(self._lanes) if other.is_closed()]:
            self._lanes.pop(other, None)
        lane = self._lanes.setdefault(loop, _Lane())
        ticket = Ticket(question, loop.create_future())
        lane.waiting.append(ticket)
        self._collect(loop, lane)
        try:
            return await ticket.future
        except asyncio.CancelledError:
            ticket.dropped = True
            raise

    def _collect(self, loop: asyncio.AbstractEventLoop, lane: _Lane[Question]) -> None:
        if lane.busy:
            return
        lane.busy = True

        def turn(seen: int, quiet: int) -> None:
            if len(lane.waiting) != seen:
                quiet = 0
            if quiet < QUIET_TURNS:
                loop.call_soon(turn, len(lane.waiting), quiet + 1)
            else:
                self._start(loop, lane)

        turn(0, 0)

    def _start(self, loop: asyncio.AbstractEventLoop, lane: _Lane[Question]) -> None:
        batch = [ticket for ticket in lane.waiting if not ticket.dropped]
        lane.waiting.clear()

        def ended(work: asyncio.Future[None]) -> None:
            error = None if work.cancelled() else work.exception()
            for ticket in batch:
                if not ticket.future.done():
                    ticket.fail(self._explain(error))
            lane.busy = False
            if lane.waiting:
                self._collect(loop, lane)
            else:
                self._lanes.pop(loop, None)

        if batch:
            loop.run_in_executor(None, self._work, batch).add_done_callback(ended)
        else:
            lane.busy = False
            self._lanes.pop(loop, None)

    def _work(self, batch: list[Ticket[Question]]) -> None:
        with self._one_batch:
            if wanted := [ticket for ticket in batch if not ticket.dropped]:  # some may be gone after the wait
                self._run(wanted)

    def _explain(self, error: BaseException | None) -> BaseException:
        if isinstance(error, TreeagentError):
            return error
        cause = f"{type(error).__name__}: {error}" if error else "its work was abandoned"
        failure = BackendError(f"{self._who} failed: {cause}")
        failure.__cause__ = error
        return failure
