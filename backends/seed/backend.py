"""Backend ``seed``: requests of all live tree nodes, gathered into rounds of batched draft-then-verify.

Rounds are made in the models' thread while there is work; callers await futures.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from treeagent.backend import Reply, Request, Round, ScoreRequest, Scores
from treeagent.errors import BackendError, ConfigError, TreeagentError, did_you_mean

from ..local import model_thread
from ..local.base import LocalBackend
from ..local.request_queue import RequestQueue
from .builder import Parts, assemble
from .draft_model import SharedDraftModel
from .drafters.base import Drafter
from .drafters.model.beam_tree import size_of
from .drafters.registry import DrafterSpec
from .executor.early_exit import ExitSpec
from .executor.weights import WeightCache
from .scheduler.requests import EngineRequest, jobs_of
from .scheduler.round_log import RoundLog
from .scheduler.scheduler import POLICIES
from .verifiers.beam_rejection import check_beams
from .verifiers.rejection import VERIFIERS


class SeedBackend(LocalBackend):
    """Scheduled speculative decoding over a prefix-shared forest of keys and values.

    Args:
        model: a name (``mini``, ``smollm2``), a folder, a .gguf file or a hub id.
        draft: a smaller model with the same vocabulary, for all drafters but ``none`` and tables alone.
        drafter: ``auto`` (``ngram``, with ``draft`` also the model), ``none``, a table (``ngram``, ``recycling``,
            ``stand``), a shape of the model's drafts (``model``: a chain, ``dynamic``, ``rsd-c:2x2``, ``rsd-s:3x2``,
            ``mcsd:2x2``), both as in ``ngram+model``, or whatever makes a :class:`Drafter` when it is called.
        exit: where tokens leave a draft model of several exits: ``adaptive`` (at the first exit whose largest
            probability exceeds 0.8, or another threshold: ``adaptive:0.5``), or a number of layers. None is
            ``adaptive`` at those exits where a look takes less time than the layers it may save.
        policy: ``rounds``, or the paper's ``fcfs`` and ``serial``.
        verify: ``coupled`` (the text is plain decoding's, token for token) or ``recursive`` rejection (its law is).
            ``rejection`` is another name of it, the one that is usual for chains.
        draft_tokens: tokens drafted for every branch in every round; None leaves it to the measured times.
        beam_draft: ``WIDTHxDEPTH``, beams and steps that the draft model drafts for a completion with beams; no fewer
            than the completion has. None: twice as many beams as it has, up to 3 steps, as many as pay.
        beam_threshold: with ``recursive``, the chance with which all beams of a step should be found among the drafted
            ones: steps have as many beams as that allows, which is faster and no longer the law of plain beam sampling.
            None: always all of them.
        beam_min: the fewest beams of such a step.
        beam_survivors: 1, with ``recursive``: only the best beam goes on after a pass, so that one sequence's keys and
            values are held; the law is then not that of plain beam sampling. None: all go on.
        kv_memory: megabytes (10^6 bytes) of keys and values, of the target and as many of the draft model.
        max_rows: branches that are live at one time; others wait.
        chunk: prompt tokens that one round reads at most.
        device, dtype, threads, chat: as of every local backend.
        shelf: engines that are given the same one hold the weights of each model once.

    Raises ConfigError for a senseless option; loading raises ModelError.
    """

    name = "seed"
    options: ClassVar = {
        **LocalBackend.options,
        "draft": str,
        "drafter": str,
        "exit": str,
        "policy": str,
        "verify": str,
        "draft_tokens": int,
        "beam_draft": str,
        "beam_threshold": float,
        "beam_min": int,
        "beam_survivors": int,
        "kv_memory": float,
        "max_rows": int,
        "chunk": int,
    }

    def __init__(
        self,
        model: str = "mini",
        *,
        draft: str | None = None,
        drafter: str | Callable[[], Drafter] = "auto",
        exit: str | None = None,
        policy: str = "rounds",
        verify: str = "coupled",
        draft_tokens: int | None = None,
        beam_draft: str | None = None,
        beam_threshold: float | None = None,
        beam_min: int = 1,
        beam_survivors: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
        kv_memory: float = 2000.0,
        max_rows: int = 256,
        chunk: int = 1024,
        threads: int | None = None,
        chat: bool | None = None,
        shelf: WeightCache | None = None,
    ) -> None:
        super().__init__(model, device, dtype, threads, chat)
        self.shelf = shelf or WeightCache()
        words = (("policy", policy, POLICIES), ("verify", verify, VERIFIERS))
        for option, word, known in words:
            if word not in known:
                valid = f"Valid: {', '.join(known)}."
                raise ConfigError(f"there is no {option} {word!r}.{did_you_mean(word, known)} {valid}")
        named = drafter if isinstance(drafter, str) else "none"
        if named == "auto":
            named = "ngram" if draft is None else "ngram+model"
        choice = DrafterSpec.parse(named)
        if draft is None and choice.model:
            raise ConfigError(f"drafter {named!r} needs a draft model: give draft, such as draft=mini-draft for mini")
        if draft is not None and not choice.model:
            raise ConfigError(f"draft {draft!r} is given, but the drafter uses no model. Leave one of them out.")
        choice.shape(coupled=verify == "coupled")
        if exit is not None:
            if draft is None:
                raise ConfigError(f"exit={exit} is about a draft model, and there is none: give draft, or leave it out")
            ExitSpec.parse(exit)
        numbers = {"kv_memory": kv_memory, "max_rows": max_rows, "chunk": chunk, "draft_tokens": draft_tokens}
        for option, number in numbers.items():
            if number is not None and not number > 0:
                raise ConfigError(f"{option} must be positive, not {number}")
        if beam_draft is not None:
            size_of(beam_draft)
        check_beams(beam_threshold, beam_min, beam_survivors, coupled=verify == "coupled")
        self.beam_draft, self.beam_threshold = beam_draft, beam_threshold
        self.beam_min, self.beam_survivors = beam_min, beam_survivors
        self.draft, self.exit, self.policy, self.verify = draft, exit, policy, verify
        self.drafter = drafter if isinstance(drafter, str) else "own"
        self.chosen_drafter = named
        """What ``auto`` stands for."""
        self.make_drafter = None if isinstance(drafter, str) else drafter
        self.draft_tokens = draft_tokens
        self.kv_memory, self.max_rows, self.chunk = kv_memory, max_rows, chunk
        self.shared = SharedDraftModel()
        self.shared.engines.add(self)
        """What engines opened beside this one have in common with it."""
        self._parts: Parts | None = None
        self._recorder = RoundLog()
        self._gatherer: RequestQueue[Request | ScoreRequest] = RequestQueue(self._submit)
        self._inbox: deque[EngineRequest] = deque()
        self._answers: deque[Callable[[], None]] = deque()
        """What is handed out when the round is over."""
        self._lock = threading.Lock()
        """Guards the inbox and whether there is work."""
        self._working = False

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # as of every local backend
        """Without ``seed`` where texts depend on what was drafted, and so on what else was asked. Raises ModelError."""
        free = self.verify != "coupled" and self.drafter != "none"
        return super().capabilities - ({"seed"} if free else set())

    @property
    def loaded(self) -> bool:
        """Whether its models are in memory."""
        return self._parts is not None

    def beside(self, model: str) -> SeedBackend:
        """An engine of another target with the same options and the same draft model, which is in memory once.

        Rounds of the two take turns. Raises ConfigError.
        """
        options = {option: getattr(self, option) for option in self.options}
        other = type(self)(model, **{**options, "drafter": self.make_drafter or self.drafter}, shelf=self.shelf)
        other.shared = self.shared
        self.shared.engines.add(other)
        return other

    def load(self) -> None:
        """Load the models and measure their passes now rather than at the first request. Raises ModelError."""
        model_thread.run(self._assembled)

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        reply: Reply = await self._gatherer.ask(request)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, which are tokenised apart from the prompt. Raises BackendError."""
        scores: Scores = await self._gatherer.ask(request)
        return scores

    async def aclose(self) -> None:
        """Wait for the rounds to end, then forget models, keys and values; the next request loads them again."""
        while not await asyncio.wrap_future(model_thread.submit(self._forget)):
            pass  # one round is made between two tries

    def reset(self, *, tables: bool = True) -> None:
        """Forget cached prefixes and, with ``tables``, what drafters have learnt, as if just loaded.

        The draft model's prefixes are forgotten for engines beside this one too. Raises BackendError while requests
        are running.
        """
        model_thread.run(lambda: self._reset(tables=tables))

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Start measuring; the result gives the engine's figures since, see docs/reference/figures.md."""
        parts = self._parts
        before = None if parts is None else parts.scheduler.counters.copy()

        def read() -> dict[str, Any]:
            now = self._parts
            if now is None:
                return {}
            counters = now.scheduler.counters
            return now.figures(counters.since(before) if before is not None and now is parts else counters)

        return read

    def rounds(self) -> Callable[[], list[Round]]:
        """Start keeping rounds; each call of the result gives those that have ended since the last."""
        return self._recorder.listen()

    def check(self) -> None:
        """Raise AssertionError where the forest contradicts itself; for tests, while no request is running."""
        if self._parts is not None:
            self._parts.scheduler.runner.forest.check()

    def _assembled(self) -> Parts:
        with self._loading:
            if self._parts is None:
                self._set_threads()
                self._parts = assemble(self, self._tokenizer(), self._load, self._device)
            return self._parts

    def _submit(self, tickets: list[EngineRequest]) -> None:
        """Take questions in, and see to it that rounds are being made. Called from any event loop's thread."""
        with self._lock:
            self._inbox.extend(tickets)
            start, self._working = not self._working, True
        if start:
            self._go_on()

    def _go_on(self) -> None:
        """Make another round as soon as the models' thread is free; other backends get their turn in between."""
        try:
            model_thread.submit(self._work)
        except RuntimeError as error:  # Python is shutting down
            self._refuse(error)
            if self._parts is not None:
                self._parts.scheduler.fail(self._explained(error), everything=True)

    def _work(self) -> None:
        """One round. The one place where everything is caught, and handed to futures."""
        try:
            parts = self._assembled()
            self._set_threads()
            self._take(parts)
            if parts.scheduler.busy:
                self._round(parts)
        except BaseException as error:  # noqa: BLE001  # the worker's boundary
            self._refuse(error)
        while self._answers:
            self._answers.popleft()()
        with self._lock:
            self._working = bool(self._inbox) or (self._parts is not None and self._parts.scheduler.busy)
            more = self._working
        if more:
            self._go_on()

    def _forget(self) -> bool:
        with self._lock:
            if self._working:
                return False
        with self._loading:
            self._parts = None
        self.shared.forget()
        gc.collect()  # parts hold each other, and with them gigabytes of weights
        return True

    def _reset(self, *, tables: bool) -> None:
        for engine in list(self.shared.engines):
            with engine._lock:  # of the same class
                if engine._working:
                    raise BackendError("the engine cannot be reset while requests are running; await them first")
        if self._parts is not None:
            self._parts.reset(tables=tables)

    def _round(self, parts: Parts) -> None:
        try:
            with self._recorder.round(parts.scheduler.counters):
                parts.scheduler.round()
        except BaseException as error:  # noqa: BLE001  # the worker's boundary: the requests of this round are lost
            parts.scheduler.fail(self._explained(error))

    def _refuse(self, error: BaseException) -> None:
        """The models could not be loaded: every waiting question gets the reason."""
        with self._lock:
            tickets = list(self._inbox)
            self._inbox.clear()
        for ticket in tickets:
            ticket.fail(self._explained(error))

    def _take(self, parts: Parts) -> None:
        """Turn what came in into jobs."""
        with self._lock:
            tickets = list(self._inbox)
            self._inbox.clear()
        for ticket in tickets:
            try:
                single = self.beam_survivors == 1
                for job in jobs_of(ticket, parts.text, parts.model, self._answers.append, single=single):
                    parts.scheduler.submit(job)
            except BaseException as error:  # noqa: BLE001  # the worker's boundary: this question's own fault
                ticket.fail(self._explained(error))

    def _explained(self, error: BaseException) -> TreeagentError:
        if isinstance(error, TreeagentError):
            return error
        failure = BackendError(f"the model {self.model} failed in the seed engine: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
