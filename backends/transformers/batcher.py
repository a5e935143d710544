"""Runs requests that are awaited together as one batch: an asyncio queue in front of a blocking function.

Requests of one event loop are collected until a few turns of the loop have brought no new one (no timers), then run
as one batch in the models' thread; while a batch runs, new requests wait for its end. Nothing is left running when no
request is pending. Several loops, one after the other or at once in several threads, may share one batcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

from treeagent.errors import BackendError, TreeagentError
from treeagent.reply import OnText

from ..local import model_thread
from ..local.request_queue import EarlyQueue, PendingRequest, RequestType, when_quiet


@dataclass(slots=True, eq=False)
class _LoopQueue(Generic[RequestType]):
    """The requests of one event loop; used by that loop's thread only."""

    waiting: list[PendingRequest[RequestType]] = field(default_factory=list)
    busy: bool = False
    """Whether a batch is being collected or run."""


class Batcher(Generic[RequestType]):
    """Answers requests by calling ``run`` with a list of requests in the models' thread, one batch at a time.

    ``run`` answers or fails every request but those that it returns, which wait for another batch; an exception that it
    raises fails those that are left, as BackendError. ``choose`` takes from the waiting requests those that it is
    called with.
    """

    def __init__(
        self,
        run: Callable[[list[PendingRequest[RequestType]]], list[PendingRequest[RequestType]]],
        choose: Callable[[list[PendingRequest[RequestType]]], list[PendingRequest[RequestType]]],
        who: str,
    ) -> None:
        self._run, self._choose = run, choose
        self.early: EarlyQueue[RequestType] = EarlyQueue()
        self._who = who
        self._queues: dict[asyncio.AbstractEventLoop, _LoopQueue[RequestType]] = {}

    async def ask(self, request: RequestType, on_text: OnText | None = None) -> Any:
        """The answer to a request; a cancelled caller's request is dropped and has no effect on others."""
        loop = asyncio.get_running_loop()
        for other in [other for other in list(self._queues) if other.is_closed()]:
            self._queues.pop(other, None)
        queue = self._queues.setdefault(loop, _LoopQueue())
        pending = PendingRequest(request, loop.create_future(), on_text)
        queue.waiting.append(pending)
        self._collect(loop, queue)
        with self.early.holding(pending):
            try:
                return await pending.future
            except asyncio.CancelledError:
                pending.cancel()
                raise

    @property
    def certain_waiting(self) -> bool:
        """Whether a request waits that is wanted for certain; may be called from any thread."""
        return any(not one.early and one.is_wanted() for queue in list(self._queues.values()) for one in queue.waiting)

    def _collect(self, loop: asyncio.AbstractEventLoop, queue: _LoopQueue[RequestType]) -> None:
        if queue.busy:
            return
        queue.busy = True
        when_quiet(loop, queue.waiting, lambda: self._start(loop, queue))

    def _start(self, loop: asyncio.AbstractEventLoop, queue: _LoopQueue[RequestType]) -> None:
        waiting = [pending for pending in queue.waiting if pending.is_wanted()]
        try:
            batch = self._choose(waiting)
        except Exception as error:  # noqa: BLE001  # the worker's boundary: nobody would be answered any more
            self._queues.pop(loop, None)
            for pending in waiting:
                pending.fail(self._explain(error))
            return
        queue.waiting[:] = [pending for pending in waiting if pending not in batch]

        def ended(work: asyncio.Future[list[PendingRequest[RequestType]]]) -> None:
            error = None if work.cancelled() else work.exception()
            aside = [] if work.cancelled() or error else work.result()
            queue.waiting[:0] = [pending for pending in aside if pending.is_wanted()]
            for pending in batch:
                if not pending.future.done() and pending not in aside:
                    pending.fail(self._explain(error))
            queue.busy = False
            if queue.waiting:
                self._collect(loop, queue)
            else:
                self._queues.pop(loop, None)

        if batch:
            loop.run_in_executor(model_thread.executor(), self._work, batch).add_done_callback(ended)
        else:
            queue.busy = False
            self._queues.pop(loop, None)

    def _work(self, batch: list[PendingRequest[RequestType]]) -> list[PendingRequest[RequestType]]:
        wanted = [pending for pending in batch if pending.is_wanted()]  # some may be cancelled after the wait
        return self._run(wanted) if wanted else []

    def _explain(self, error: BaseException | None) -> BaseException:
        if isinstance(error, TreeagentError):
            return error
        cause = f"{type(error).__name__}: {error}" if error else "its work was abandoned"
        failure = BackendError(f"{self._who} failed: {cause}")
        failure.__cause__ = error
        return failure
