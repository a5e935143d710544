"""The engine's loop: requests from any event loop, rounds in the models' thread, replies to futures.

Rounds run while there is work. Between two of them the thread is free for other engines and backends. Failures end
here: whatever is raised in the thread reaches the requests concerned as BackendError.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

from treeagent.errors import BackendError, TreeagentError
from treeagent.process_fork import ForkSafeLock, call_in_child
from treeagent.reply import OnText, Reply, Round, Scores
from treeagent.request import Request, ScoreRequest

from ..local import model_thread
from ..local.heap import trim_heap
from ..local.request_queue import RequestQueue
from ..local.text_streams import TextStreams
from .builder import EngineParts
from .config import EngineConfig
from .draft_model import SharedDraftModel
from .scheduler.joint_round import run_rounds, share_rounds
from .scheduler.requests import EngineRequest
from .scheduler.round_log import RoundLog

EARLY_ROWS = 16
"""The most early rows that the engine says to pay."""
TRIM_ROUNDS = 256
"""Rounds after which the heap is trimmed as soon as no request is left; that takes a few milliseconds."""


class EngineCore:
    """Runs the requests of one target; all public methods may be called from any thread."""

    def __init__(
        self,
        config: EngineConfig,
        build: Callable[[], EngineParts],
        draft: SharedDraftModel,
        *,
        engines: WeakSet[EngineCore],
        set_threads: Callable[[], None],
    ) -> None:
        """``build`` loads the models, and ``set_threads`` sets torch's thread count; both run in the models' thread.

        ``draft`` is kept in memory as long as this engine is loaded. ``engines``, to which this one is added, make
        their rounds together where they run the same weights.
        """
        self.config = config
        self.parts: EngineParts | None = None
        """The loaded engine; None before it is loaded and after it is closed."""
        self._build, self._set_threads = build, set_threads
        self._draft = draft
        self._draft.add_user(self)
        self._engines = engines
        self._engines.add(self)
        self._rounds = RoundLog()
        self._queue: RequestQueue[Request | ScoreRequest] = RequestQueue(self._submit)
        self._inbox: deque[EngineRequest] = deque()
        self._deferred: deque[Callable[[], None]] = deque()
        """Replies, which are delivered at the end of the round."""
        self._streams = TextStreams()
        self._lock = ForkSafeLock()
        """Guards ``_inbox``, ``_working`` and ``_resting``."""
        self._working = False
        self._resting = False
        """Only early requests are left, and no round runs before the loops that await replies have taken the last."""
        self._trimmed = 0
        """Number of the round after which the heap was trimmed last."""
        self._building = False
        self._carried = False
        """Another engine has made this one's next round with its own."""
        call_in_child(self, EngineCore._begin_anew)

    @property
    def loaded(self) -> bool:
        """Whether its models are in memory."""
        return self.parts is not None

    @property
    def working(self) -> bool:
        """Whether requests are queued or running."""
        with self._lock:
            return self._working

    async def generate(self, request: Request, on_text: OnText | None = None) -> Reply:
        """Complete a prompt, and hand out its texts after every round if asked to. Raises BackendError."""
        reply: Reply = await self._queue.ask(request, on_text)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations. Raises BackendError."""
        scores: Scores = await self._queue.ask(request)
        return scores

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """Serve pending requests of this id like one of the given priority."""
        if self._queue.early.raise_priority(request):
            self._wake()

    def load(self) -> None:
        """Load the models and measure their passes. Raises ModelError."""
        model_thread.run(self._loaded_parts)

    async def aclose(self) -> None:
        """Wait for the last round, then free models, keys and values; the next request loads them again."""
        while not await model_thread.submit_async(self._release):
            pass  # one round is run between two tries

    def reset(self, *, tables: bool) -> None:
        """Empty the prefix caches, also the draft model's, and with ``tables`` forget what drafters have learnt.

        Raises BackendError while requests are running, also in another engine with the same draft model.
        """
        model_thread.run(lambda: self._reset(tables=tables))

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Start measuring; the result gives the engine's figures since."""
        start = self.parts
        before = None if start is None else start.scheduler.counters.copy()

        def read() -> dict[str, Any]:
            parts = self.parts
            if parts is None:
                return {}
            counters = parts.scheduler.counters
            return parts.figures(counters.since(before) if before is not None and parts is start else counters)

        return read

    def early_rows(self) -> int | None:
        """How many early rows pay beside one other row; None before the models are loaded."""
        return None if self.parts is None else self.parts.scheduler.early_rows(EARLY_ROWS)

    def pass_seconds(self) -> float | None:
        """Seconds of a pass with one row; None before the models are loaded."""
        return None if self.parts is None else self.parts.scheduler.cost.calm(1)

    def rounds(self) -> Callable[[], list[Round]]:
        """Start recording rounds; each call of the result gives those that have ended since the last call."""
        return self._rounds.listen()

    def _loaded_parts(self) -> EngineParts:
        if self.parts is None:
            self._set_threads()
            self._building = True
            try:
                self.parts = self._build()
            finally:
                self._building = False
        return self.parts

    def _begin_anew(self) -> None:
        """In a forked process: drop what the parent's thread had begun, which would never end; load again when asked.

        An engine that was idle goes on, and so does its draft model unless another engine was using it.
        """
        if self._working or self._building:
            self._draft.drop_users()

    def drop(self) -> None:
        """Forget the models and all requests, to be called where no thread runs them."""
        self.parts, self._working, self._resting, self._building = None, False, False, False
        self._carried = False
        self._inbox, self._deferred, self._streams = deque(), deque(), TextStreams()
        self._queue = RequestQueue(self._submit)

    def _submit(self, requests: list[EngineRequest]) -> None:
        """Queue requests, and start the rounds if none are running. Called from any event loop's thread."""
        with self._lock:
            self._inbox.extend(requests)
            start = not self._working or self._resting
            self._working, self._resting = True, False
        if start:
            self._schedule_round()

    def _schedule_round(self) -> None:
        """Run another round as soon as the models' thread is free."""
        try:
            model_thread.submit(self._run)
        except RuntimeError as error:  # Python is shutting down
            self._fail_inbox(error)
            if self.parts is not None:
                self.parts.scheduler.fail(self._backend_error(error), everything=True)

    def _run(self) -> None:
        """Take in requests, run one round, deliver replies."""
        try:
            parts = self._loaded_parts()
            self._set_threads()
            self._admit(parts)
            if parts.scheduler.busy and not self._carried:
                self._round(parts)
            self._carried = False
        except BaseException as error:  # noqa: BLE001  # the thread's boundary: the models could not be loaded
            self._fail_inbox(error)
        self._streams.hand_out()
        replied = bool(self._deferred)
        while self._deferred:
            self._deferred.popleft()()
        with self._lock:
            self._working = bool(self._inbox) or (self.parts is not None and self.parts.scheduler.busy)
            self._resting = replied and self._only_early() and self._queue.call_when_quiet(self._wake)
            more = self._working and not self._resting
        if more:
            self._schedule_round()
        elif (
            not self._working
            and self.parts is not None
            and abs(self.parts.scheduler.counters.rounds - self._trimmed) >= TRIM_ROUNDS
        ):
            self._trimmed = self.parts.scheduler.counters.rounds
            trim_heap()

    def _only_early(self) -> bool:
        """Whether a search that has just had a reply may ask for more than what is left, which was sent early."""
        return not self._inbox and self.parts is not None and self.parts.scheduler.only_early

    def _wake(self) -> None:
        """Run rounds again; nothing if they are running. May be called from any thread."""
        with self._lock:
            start, self._resting = self._resting, False
        if start:
            self._schedule_round()

    def _admit(self, parts: EngineParts) -> None:
        """Turn the requests of the inbox into jobs."""
        for request in self._take_inbox():
            try:
                for job in parts.jobs.jobs(request, self._deferred.append, self._streams):
                    parts.scheduler.submit(job)
            except BaseException as error:  # noqa: BLE001  # the thread's boundary: this request fails alone
                request.fail(self._backend_error(error))

    def _round(self, parts: EngineParts) -> None:
        """One round, and those of engines with other adapters of the same weights that are about to make theirs."""
        members = [(self, parts), *self._others(parts)]
        with ExitStack() as log:
            for engine, own in members:
                log.enter_context(engine._rounds.round(own.scheduler.counters))
            errors = run_rounds([own.scheduler for _, own in members])
        for (engine, own), error in zip(members, errors, strict=True):
            engine._carried = engine is not self
            if error is not None:
                own.scheduler.fail(engine._backend_error(error))

    def _others(self, parts: EngineParts) -> Sequence[tuple[EngineCore, EngineParts]]:
        """The engines whose rounds can be made with this one's, their new requests admitted."""
        others = []
        for engine in list(self._engines):
            own = engine.parts
            with engine._lock:
                waits = engine._working and not engine._resting and not engine._carried
            if engine is self or own is None or not waits or not share_rounds(parts.scheduler, own.scheduler):
                continue
            engine._admit(own)
            if own.scheduler.busy:
                others.append((engine, own))
        return others

    def _fail_inbox(self, error: BaseException) -> None:
        for request in self._take_inbox():
            request.fail(self._backend_error(error))

    def _take_inbox(self) -> list[EngineRequest]:
        with self._lock:
            requests, self._inbox = list(self._inbox), deque()
        return requests

    def _release(self) -> bool:
        """Free the models unless there is work; whether they are free."""
        if self.working:
            self._wake()  # a loop that was to do so may be closed
            return False
        self.parts = None
        self._draft.release()
        gc.collect()  # parts hold each other, and with them gigabytes of weights
        trim_heap()
        return True

    def _reset(self, *, tables: bool) -> None:
        if self.working:
            self._run()  # one round lets go of what nobody awaits any more, such as cancelled early requests
        if self._draft.working:
            raise BackendError("the engine cannot be reset while requests are running; await them first")
        if self.parts is not None:
            self.parts.reset(tables=tables)

    def _backend_error(self, error: BaseException) -> TreeagentError:
        if isinstance(error, TreeagentError):
            return error
        failure = BackendError(f"the model {self.config.model} failed in seed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
