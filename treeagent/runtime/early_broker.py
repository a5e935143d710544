"""Sends the requests of a guess early."""

from __future__ import annotations

from dataclasses import dataclass

from ..reply import Reply, Scores
from ..request import Request, ScoreRequest
from .early_requests import EarlyRequests
from .reply_text import checked_reply, checked_scores, received
from .request_broker import EVALUATOR, GENERATOR


@dataclass(frozen=True, slots=True)
class EarlyBroker:
    """Sends the requests of one guess early."""

    early: EarlyRequests
    kind: str
    chance: float
    """That the search will ask for it."""

    def name_of(self, place: int) -> str:
        """See RequestBroker."""
        return self.early.name_of(place)

    async def complete(self, request: Request, role: str, thought: int, place: int = GENERATOR) -> tuple[str, Reply]:
        """See RequestBroker. Raises NotAnsweredError."""
        reply = checked_reply(await self.early.ahead(request, self.kind, place, self.chance))
        return request.id, received(reply, request.sampling.max_tokens)

    async def score(self, request: ScoreRequest, role: str, thought: int) -> tuple[str, Scores]:
        """See RequestBroker. Raises NotAnsweredError."""
        scores = await self.early.ahead(request, self.kind, EVALUATOR, self.chance)
        return request.id, checked_scores(scores, len(request.continuations))
