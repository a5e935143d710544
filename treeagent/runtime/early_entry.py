"""A request that was sent early, or that a search has asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

from ..reply import Reply, Scores, Usage
from ..request import Request, ScoreRequest
from .budget import BudgetExhausted, Reservation

AnyRequest: TypeAlias = Request | ScoreRequest
Answer: TypeAlias = Reply | Scores


@dataclass(slots=True, eq=False)
class EarlyEntry:
    """A request that was sent early, or that the search has asked for."""

    request: AnyRequest
    kind: str
    place: int
    number: int
    chance: float = 1.0
    """That the search will ask for it."""
    real: bool = False
    """Whether the search has asked for it."""
    waiting: int = 0
    """Guesses that await it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    """None before it is sent early, and where it never is."""
    answer: Answer | None = None
    began: float = 0.0
    asked: float | None = None
    """When the search asked for it."""
    seconds: float | None = None
    tokens: dict[int, int | None] = field(default_factory=dict)
    """Tokens written so far, by sample."""
    ticket: Reservation | None = None

    @property
    def usage(self) -> Usage:
        """Its cost as far as it is known."""
        if self.answer is not None:
            return self.answer.usage
        tokens = list(self.tokens.values())
        written = [number for number in tokens if number is not None]
        return Usage(1, None, sum(written) if tokens and len(written) == len(tokens) else None)


class NotAnsweredError(BudgetExhausted):
    """An early request has no answer: it failed, did not fit the budget, or its search has ended."""

    def __init__(self) -> None:
        super().__init__("early requests")
