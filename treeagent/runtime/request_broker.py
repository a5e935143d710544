"""Sends a search's requests to the backends within the budget, and answers those that the journal holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..backend import Backend
from ..errors import RequestRefusedError
from ..plugin_boundary import PluginBoundary
from ..reply import Reply, Scores
from ..request import Request, ScoreRequest
from ..search import MAIN
from ..world import Observation
from .budget import Ledger
from .early_requests import EarlyRequests
from .events import Event
from .guarded_task import GuardedTask
from .journal import completion_event, refused_event, scores_event
from .observer import Observer
from .reply_text import checked_reply, checked_scores, received

AnyRequest = TypeVar("AnyRequest", Request, ScoreRequest)

GENERATOR, EVALUATOR = 0, 1
"""Places of the generator's backend and price, and of the evaluator's."""


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """The answers that a journal holds, by the ids of the requests."""

    replies: Mapping[str, Reply] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Messages of the requests that were refused."""
    observations: Mapping[str, Observation] = field(default_factory=dict)
    """What came of steps, by :func:`.observer.observation_id`."""

    def answer(self, request: str) -> Reply | Scores | None:
        """The answer to the request of this id."""
        return self.replies.get(request) or self.scores.get(request)


class RequestBroker:
    """The backends of one search, its ledger, and the answers that its journal holds already."""

    def __init__(
        self,
        backends: Sequence[Backend],
        ledger: Ledger,
        early: EarlyRequests,
        known: KnownAnswers,
        emit: Callable[[Event], None],
        where: str,
        remaining: Callable[[int], float | None],
    ) -> None:
        """``backends`` are the generator's, the evaluator's, and those of further models; ``where`` names the input.

        ``remaining`` gives :attr:`.Request.remaining` after so many requests, the same for all that are made at once.
        """
        self.early = early
        self._backends, self._ledger, self._known, self._emit = backends, ledger, known, emit
        self._where, self._remaining = where, remaining

    def name_of(self, place: int) -> str:
        """The name of a further model; empty for the generator's own and the evaluator's."""
        return self.early.name_of(place)

    @property
    def places(self) -> dict[str, int]:
        """By the name of every model that generates its place, the generator's own first."""
        further = range(EVALUATOR + 1, len(self._backends))
        return {MAIN: GENERATOR, **{self.name_of(place): place for place in further}}

    def observer(self, task: GuardedTask, *, legality: bool) -> Observer | None:
        """Who observes the steps of a task; None where they need no observation."""
        if (world := task.world()) is None:
            return None
        recorded = self._backends[GENERATOR].observations
        known = {**(recorded or {}), **self._known.observations}
        return Observer(task, world.limits, known, self._emit, recorded_only=recorded is not None, legality=legality)

    async def complete(self, request: Request, role: str, thought: int, place: int = GENERATOR) -> tuple[str, Reply]:
        """The request's id, which a short budget may change, and its reply.

        Raises BudgetExhausted, RequestRefusedError, which the journal holds then, BackendError and PluginError.
        """
        backend, inside = self._at(place)
        with inside:
            copies = backend.prompt_copies(request)
        request, ticket = await self._ledger.admit(request, place, copies)
        reply, seconds = self._known.replies.get(request.id), None
        try:
            if reply is None:
                self._refuse_known(request.id)
                began = time.monotonic()
                with inside:
                    reply = checked_reply(await self.early.answer(self._ranked(request), place))
                seconds = time.monotonic() - began
        except RequestRefusedError as refusal:
            self._emit(refused_event(request, role, str(refusal), thought=thought))
            raise
        finally:
            self._ledger.settle(ticket, None if reply is None else reply.usage)
        reply = received(reply, request.sampling.max_tokens)
        messages = request.messages
        self._emit(
            completion_event(
                request.id,
                role,
                request.prompt,
                reply,
                messages=messages,
                thought=thought,
                seconds=seconds,
                model=request.key.model or None,
            )
        )
        self.tell_early()
        return request.id, reply

    async def score(self, request: ScoreRequest, role: str, thought: int) -> tuple[str, Scores]:
        """The request's id and log-likelihoods from the evaluator's backend. Raises what :meth:`complete` raises."""
        backend, inside = self._at(EVALUATOR)
        with inside:
            copies = backend.prompt_copies(request)
        ticket = await self._ledger.admit_score(request, EVALUATOR, copies)
        scores, seconds = self._known.scores.get(request.id), None
        try:
            if scores is None:
                self._refuse_known(request.id)
                began = time.monotonic()
                with inside:
                    scores = checked_scores(
                        await self.early.answer(self._ranked(request), EVALUATOR), len(request.continuations)
                    )
                seconds = time.monotonic() - began
        except RequestRefusedError as refusal:
            self._emit(refused_event(request, role, str(refusal), thought=thought))
            raise
        finally:
            self._ledger.settle(ticket, None if scores is None else scores.usage)
        messages, words = request.chat.messages, request.continuations
        self._emit(
            scores_event(request.id, request.prompt, scores, words, messages=messages, thought=thought, seconds=seconds)
        )
        self.tell_early()
        return request.id, scores

    def _ranked(self, request: AnyRequest) -> AnyRequest:
        """The request with what decides its turn beside those of other searches."""
        remaining = self._remaining(self._ledger.settled)
        return request if remaining is None else replace(request, remaining=remaining)

    def _at(self, place: int) -> tuple[Backend, PluginBoundary]:
        """The backend of a place, and the boundary that names it; which one runs may be known since the last load."""
        backend = self._backends[place]
        return backend, PluginBoundary("backend", backend.name, self._where)

    def tell_early(self) -> None:
        """Report what became of early requests since the last time."""
        for event in self.early.events():
            self._emit(event)

    def _refuse_known(self, request: str) -> None:
        """Raises RequestRefusedError again for a request whose refusal the journal holds."""
        if (message := self._known.refusals.get(request)) is not None:
            raise RequestRefusedError(message)
