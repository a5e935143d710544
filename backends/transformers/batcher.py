"""What is awaited together runs together: an asyncio queue in front of a blocking function.

Questions of one event loop are collected until a few turns of the loop have brought no new one (no timers), then run
as one batch in the models' thread; while a batch runs, new questions wait for its end. Nothing is left running when no
question is pending. Several loops, one after the other or at once in several threads, may share one batcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

from treeagent.errors import BackendError, TreeagentError

from ..local import model_thread
from ..local.request_queue import PendingRequest, Question, when_quiet


@dataclass(slots=True, eq=False)
class _Lane(Generic[Question]):
    """What one event loop waits for; touched by that loop's thread only."""

    waiting: list[PendingRequest[Question]] = field(default_factory=list)
    busy: bool = False
    """Whether a batch is being collected or run."""


class Batcher(Generic[Question]):
    """Answers questions by calling ``run`` with a list of tickets in the models' thread, one batch at a time.

    ``run`` answers or fails every ticket; an exception that it raises fails those that are left, as BackendError.
    """

    def __init__(self, run: Callable[[list[PendingRequest[Question]]], None], who: str) -> None:
        self._run = run
        self._who = who
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane[Question]] = {}

    async def ask(self, question: Question) -> Any:
        """The answer to a question; a cancelled caller's question is dropped and hurts no other."""
        loop = asyncio.get_running_loop()
        for other in [other for other in list(self._lanes) if other.is_closed()]:
            self._lanes.pop(other, None)
        lane = self._lanes.setdefault(loop, _Lane())
        ticket = PendingRequest(question, loop.create_future())
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
        when_quiet(loop, lane.waiting, lambda: self._start(loop, lane))

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
            loop.run_in_executor(model_thread.executor(), self._work, batch).add_done_callback(ended)
        else:
            lane.busy = False
            self._lanes.pop(loop, None)

    def _work(self, batch: list[PendingRequest[Question]]) -> None:
        if wanted := [ticket for ticket in batch if not ticket.dropped]:  # some may be gone after the wait
            self._run(wanted)

    def _explain(self, error: BaseException | None) -> BaseException:
        if isinstance(error, TreeagentError):
            return error
        cause = f"{type(error).__name__}: {error}" if error else "its work was abandoned"
        failure = BackendError(f"{self._who} failed: {cause}")
        failure.__cause__ = error
        return failure
