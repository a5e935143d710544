"""Sends a search's requests to the backends within the budget, and answers those that the journal holds."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..backend import Backend, Reply, Request, ScoreRequest, Scores
from .budget import Ledger
from .journal import Event, completion_event, scores_event
from .reply_text import received

GENERATOR, EVALUATOR = 0, 1
"""Places of the generator's backend and price, and of the evaluator's."""


class RequestBroker:
    """The backends of one search, its ledger, and the answers that its journal holds already."""

    def __init__(
        self,
        backends: tuple[Backend, Backend],
        ledger: Ledger,
        known: tuple[dict[str, Reply], dict[str, Scores]],
        emit: Callable[[Event], None],
    ) -> None:
        """``backends`` are the generator's and the evaluator's; ``known`` maps request ids to answers."""
        self._backends, self._ledger, self._emit = backends, ledger, emit
        self._replies, self._scores = known

    async def complete(self, request: Request, role: str, thought: int, place: int = GENERATOR) -> tuple[str, Reply]:
        """The request's id, which a short budget may change, and its reply. Raises BudgetExhausted, BackendError."""
        backend = self._backends[place]
        request, ticket = await self._ledger.admit(request, place, backend.prompt_copies(request))
        reply, seconds = self._replies.get(request.id), None
        try:
            if reply is None:
                began = time.monotonic()
                reply = await backend.generate(request)
                seconds = time.monotonic() - began
        finally:
            self._ledger.settle(ticket, None if reply is None else reply.usage)
        reply = received(reply, request.sampling.max_tokens)
        self._emit(completion_event(request.id, role, request.prompt, reply, thought=thought, seconds=seconds))
        return request.id, reply

    async def score(self, request: ScoreRequest, thought: int) -> tuple[str, Scores]:
        """The request's id and log-likelihoods from the evaluator's backend. Raises BudgetExhausted, BackendError."""
        backend = self._backends[EVALUATOR]
        ticket = await self._ledger.admit_score(request, EVALUATOR, backend.prompt_copies(request))
        scores, seconds = self._scores.get(request.id), None
        try:
            if scores is None:
                began = time.monotonic()
                scores = await backend.score(request)
                seconds = time.monotonic() - began
        finally:
            self._ledger.settle(ticket, None if scores is None else scores.usage)
        event = scores_event(
            request.id, request.prompt, scores, request.continuations, thought=thought, seconds=seconds
        )
        self._emit(event)
        return request.id, scores
