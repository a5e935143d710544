"""Limits of a run, and the ledger that keeps to them.

A request is admitted only if the worst it can cost still fits, so a parallel batch cannot overshoot. Whether it is
admitted depends on what the requests *issued* before it really cost, never on which of them happened to finish first:
where the worst case does not fit while earlier requests are still running, admission waits for them. So a budget in
calls, tokens, nodes or dollars cuts a search at the same place every time; only seconds cannot.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace

from .backend import Request, ScoreRequest, Usage
from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits of one run; None is no limit."""

    calls: int | None = None
    """Requests to the backend."""
    tokens: int | None = None
    """Prompt and completion tokens together."""
    seconds: float | None = None
    """Wall clock."""
    nodes: int | None = None
    """Thoughts in the tree, the root not counted."""
    dollars: float | None = None
    """Needs a backend with a known price."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            amount = getattr(self, limit.name)
            if amount is not None and not amount >= 0:
                raise ConfigError(f"budget: {limit.name} must be 0 or more, got {amount}")


class BudgetExhausted(Exception):
    """Ends a search from inside. Not an error: the agent catches it and returns the best answer so far."""

    def __init__(self, limit: str) -> None:
        self.limit = limit
        super().__init__(f"the budget of {limit} is used up")


@dataclass(slots=True)
class Ticket:
    """A reservation."""

    worst: Usage


class Ledger:
    """Admits requests in the order they are issued and books what they really cost."""

    def __init__(self, budget: Budget, price: tuple[float, float] | None = None) -> None:
        if budget.dollars is not None and price is None:
            raise ConfigError(
                "budget: dollars are limited but the backend's price per token is unknown; limit tokens instead"
            )
        self.budget = budget
        self.spent = Usage(dollars=None if price is None else 0.0)
        self._charged = Usage(dollars=0.0)  # like spent, but the worst case where a backend does not tell
        self.nodes = 0
        self._price = price
        self._open: list[Ticket] = []
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()  # fair: waiters are admitted in the order they asked

    async def admit(self, request: Request) -> tuple[Request, Ticket]:
        """Reserve the worst case of a generation; its ``max_tokens`` is shortened where only less is left.

        Raises BudgetExhausted when not even a short completion fits.
        """
        prompt = len(request.prompt.encode()) + _TEMPLATE_TOKENS  # a byte-level token is at least one byte
        wanted = request.sampling.max_tokens * request.n
        least = min(request.sampling.max_tokens, _SHORTEST) * request.n
        async with self._turn:
            room = await self._room(prompt, least, wanted)
            if room < wanted:
                sampling = replace(request.sampling, max_tokens=room // request.n)
                request = replace(request, sampling=sampling)
            return request, self._open_ticket(prompt, min(room, wanted))

    async def admit_score(self, request: ScoreRequest) -> Ticket:
        """Reserve the worst case of a scoring. Raises BudgetExhausted."""
        size = len(request.prompt.encode()) + sum(len(text.encode()) for text in request.continuations)
        async with self._turn:
            await self._room(size + _TEMPLATE_TOKENS, 0, 0)
            return self._open_ticket(size + _TEMPLATE_TOKENS, 0)

    async def settle(self, ticket: Ticket, usage: Usage | None) -> None:
        """Book the real cost; None when the request failed or was cancelled, which costs a call and nothing known."""
        real = Usage(calls=1, dollars=self._dollars(0, 0)) if usage is None else usage
        if self._price is not None:
            real = replace(real, dollars=self._dollars(real.prompt_tokens or 0, real.completion_tokens or 0))
        self.spent += real
        worst = ticket.worst
        self._charged += Usage(
            1,
            worst.prompt_tokens if real.prompt_tokens is None else real.prompt_tokens,
            worst.completion_tokens if real.completion_tokens is None else real.completion_tokens,
            real.dollars or 0.0,
        )
        self._open.remove(ticket)
        async with self._changed:
            self._changed.notify_all()

    def take_node(self) -> None:
        """Count a new thought. Raises BudgetExhausted."""
        if self.budget.nodes is not None and self.nodes >= self.budget.nodes:
            raise BudgetExhausted("nodes")
        self.nodes += 1

    async def _room(self, prompt: int, least: int, wanted: int) -> int:
        """Completion tokens that fit, at least ``least`` and at most ``wanted``. Raises BudgetExhausted."""
        while True:
            room, short = self._fits(prompt, least, wanted)
            if short is None and (room >= wanted or not self._open):
                return room
            if short is not None and not self._open:
                raise BudgetExhausted(short)
            async with self._changed:
                await self._changed.wait()

    def _fits(self, prompt: int, least: int, wanted: int) -> tuple[int, str | None]:
        held = self._charged
        for ticket in self._open:
            held += ticket.worst
        limits, room = self.budget, wanted
        if limits.calls is not None and held.calls + 1 > limits.calls:
            return 0, "calls"
        if limits.tokens is not None:
            room = min(room, limits.tokens - (held.tokens or 0) - prompt)
            if room < least:
                return 0, "tokens"
        if limits.dollars is not None and self._price is not None:
            left = limits.dollars - (held.dollars or 0.0) - prompt * self._price[0]
            if left < least * self._price[1]:
                return 0, "dollars"
            if self._price[1] > 0:
                room = min(room, int(left / self._price[1]))
        return room, None

    def _open_ticket(self, prompt: int, completion: int) -> Ticket:
        ticket = Ticket(Usage(1, prompt, completion, self._dollars(prompt, completion) or 0.0))
        self._open.append(ticket)
        return ticket

    def _dollars(self, prompt: int, completion: int) -> float | None:
        return None if self._price is None else prompt * self._price[0] + completion * self._price[1]


_TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt."""
_SHORTEST = 16
"""A completion cut below this many tokens is not worth its prompt."""
