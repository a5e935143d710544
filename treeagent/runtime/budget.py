"""Limits of a run, and the ledger that keeps to them.

A request is admitted only if its largest possible cost still fits, so a parallel batch cannot exceed a limit. Admission
depends on the real cost of the requests *issued* before, never on which of them finished first: where the largest cost
does not fit while earlier requests are running, the ledger waits until these are settled. So a budget in calls, tokens,
nodes or dollars ends a search at the same place every time; one in seconds does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TypeAlias

from ..errors import ConfigError
from ..reply import Usage
from ..request import Request, ScoreRequest


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
            if amount is None:
                continue
            if isinstance(amount, bool) or not isinstance(amount, Real):
                raise ConfigError(f"budget: {limit.name} must be a number or None, got {amount!r:.60}")
            if not float(amount) >= 0:
                raise ConfigError(f"budget: {limit.name} must be 0 or more, got {amount}")


class BudgetExhausted(Exception):
    """Ends a search from inside. Not an error: the agent catches it and returns the best answer so far."""

    def __init__(self, limit: str) -> None:
        self.limit = limit
        super().__init__(f"the budget of {limit} is used up")


Price: TypeAlias = "tuple[float, float] | None"
"""Dollars per prompt token and per completion token; None when unknown."""


@dataclass(slots=True, eq=False)
class Reservation:
    """The largest possible cost of a request that has been admitted and is not settled."""

    worst: Usage
    price: Price
    place: int = 0
    """Which of the backends is asked."""


class Ledger:
    """Admits requests in the order in which they are issued, and books their real cost."""

    def __init__(self, budget: Budget, *prices: Price) -> None:
        """``prices`` are those of all backends that will be asked, the usual one first."""
        self._prices = prices or (None,)
        if budget.dollars is not None and None in self._prices:
            raise ConfigError(
                "budget: dollars are limited but the backend's price per token is unknown; limit tokens instead"
            )
        self.budget = budget
        self.nodes = 0
        self.cut: str | None = None
        """The limit that refused something first."""
        self._refused: str | None = (
            None  # once a request is refused, all later ones are: no small request passes a large one
        )
        self._real: dict[Price, Usage] = dict.fromkeys(self._prices, Usage())
        self._charged = self._real.copy()  # like _real, but the largest cost where a backend reports none
        self._places = [Usage()] * len(self._prices)
        self._open: list[Reservation] = []
        self._early: dict[Reservation, Usage] = {}
        self._give_up: Callable[[], bool] = bool
        self._pressed = False
        self._settled = asyncio.Event()  # only the caller that holds the turn awaits it
        self._turn = asyncio.Lock()  # fair: callers get it in the order in which they asked

    @property
    def spent(self) -> Usage:
        """Real cost of the settled requests; dollars come from token sums, whatever the order of adding."""
        return replace(_sum(self._real), dollars=_dollars(self._real))

    @property
    def settled(self) -> int:
        """Requests that have ended."""
        return sum(usage.calls for usage in self._real.values())

    def share(self) -> float:
        """The used share of the limits, the highest of them, from 0 to 1; 0 where nothing but seconds is limited."""
        held = _sum(self._charged)
        tokens = (held.prompt_tokens or 0) + (held.completion_tokens or 0)
        used = (held.calls, self.budget.calls), (tokens, self.budget.tokens), (self.nodes, self.budget.nodes)
        money = (_dollars(self._charged) or 0.0, self.budget.dollars)
        shares = [amount / limit if limit else 1.0 for amount, limit in (*used, money) if limit is not None]
        return min(max(shares, default=0.0), 1.0)

    def spent_at(self, place: int) -> Usage:
        """As :attr:`spent`, of one backend's requests; nothing for one that is not asked."""
        if place >= len(self._places):
            return Usage()
        usage = self._places[place]
        return replace(usage, dollars=_dollars({self._prices[place]: usage}))

    async def admit(self, request: Request, place: int = 0, copies: int = 1) -> tuple[Request, Reservation]:
        """Reserve the worst case of a generation; its ``max_tokens`` is shortened where only less is left.

        ``place`` says which of the prices is asked, ``copies`` how often the prompt may be counted. Raises
        BudgetExhausted when not even a short completion fits.
        """
        prompt, wanted = _worst(request, copies).prompt_tokens or 0, request.sampling.max_tokens * request.n
        least = min(request.sampling.max_tokens, _SHORTEST) * request.n
        async with self._turn:
            room = await self._room(prompt, least, wanted, self._prices[place])
            if room < wanted:
                sampling = replace(request.sampling, max_tokens=room // request.n)
                request = replace(request, sampling=sampling)
            return request, self._reserve(Usage(1, prompt, min(room, wanted)), place)

    async def admit_score(self, request: ScoreRequest, place: int = 0, copies: int = 1) -> Reservation:
        """Reserve the worst case of a scoring. Raises BudgetExhausted."""
        size = _worst(request, copies).prompt_tokens or 0
        async with self._turn:
            await self._room(size, 0, 0, self._prices[place])
            return self._reserve(Usage(1, size, 0), place)

    def settle(self, ticket: Reservation, usage: Usage | None) -> None:
        """Book the real cost; None for a request that failed or was cancelled: a call of unknown cost."""
        real = Usage() if usage is None else usage
        cost = replace(real, calls=1, dollars=None)
        self._real[ticket.price] += cost
        self._places[ticket.place] += cost
        self._charged[ticket.price] += _charged(real, ticket.worst)
        self._open.remove(ticket)
        self._settled.set()

    def press(self, give_up: Callable[[], bool]) -> None:
        """``give_up`` ends the early requests that run, and says whether there were any.

        It is called where they are in the way of a request of the search; none is admitted from then on.
        """
        self._give_up = give_up

    def reserve_early(self, request: Request | ScoreRequest, place: int = 0, copies: int = 1) -> Reservation | None:
        """Reserve the worst case of an early request, for which limits of calls do not count; None: no room."""
        worst, limits, price = _worst(request, copies), self.budget, self._prices[place]
        ticket = Reservation(worst, price)
        if limits.tokens is None and limits.dollars is None:
            return ticket
        wanted = worst.completion_tokens or 0
        fits = self._fits(worst.prompt_tokens or 0, wanted, wanted, price, early=True) == (wanted, None)
        if self._pressed or self._refused is not None or not fits:
            return None
        self._early[ticket] = worst
        return ticket

    def book_early(self, ticket: Reservation, usage: Usage) -> None:
        """What an early request has cost; unknown tokens are charged at worst. It stands unless it is released."""
        if ticket in self._early:
            self._early[ticket] = _charged(usage, ticket.worst)
            self._settled.set()

    def release_early(self, ticket: Reservation) -> None:
        """Forget an early request: the search has asked for it, and its reservation covers both."""
        self._early.pop(ticket, None)
        self._settled.set()

    def take_nodes(self, wanted: int) -> int:
        """Count new thoughts; how many of them are allowed. Raises BudgetExhausted when none is."""
        allowed = wanted if self.budget.nodes is None else min(wanted, self.budget.nodes - self.nodes)
        self.nodes += allowed
        if allowed < wanted:
            exhausted = self._exhausted("nodes")
            if not allowed:
                raise exhausted
        return allowed

    async def _room(self, prompt: int, least: int, wanted: int, price: Price) -> int:
        """Completion tokens that fit, at least ``least`` and at most ``wanted``. Raises BudgetExhausted."""
        while True:
            if self._refused is not None:
                raise BudgetExhausted(self._refused)
            room, short = self._fits(prompt, least, wanted, price)
            if (short is not None or room < wanted) and not self._pressed and self._early:
                self._pressed = True
                self._give_up()
                continue
            if short is None and (room >= wanted or not self._open):
                return room
            if short is not None and not self._open:
                self._refused = short
                raise self._exhausted(short)
            self._settled.clear()
            await self._settled.wait()

    def _fits(
        self, prompt: int, least: int, wanted: int, price: Price, *, early: bool = False
    ) -> tuple[int, str | None]:
        books = self._charged.copy()
        for ticket, usage in self._early.items():
            books[ticket.price] += replace(usage, calls=0)
        for ticket in self._open:
            books[ticket.price] += ticket.worst
        held, limits, room = _sum(books), self.budget, wanted
        if limits.calls is not None and held.calls + 1 > limits.calls and not early:
            return 0, "calls"
        if limits.tokens is not None:
            room = min(room, limits.tokens - (held.tokens or 0) - prompt)
            if room < least:
                return 0, "tokens"
        if limits.dollars is not None and price is not None:
            left = limits.dollars - (_dollars(books) or 0.0) - prompt * price[0]
            if left < least * price[1]:
                return 0, "dollars"
            if price[1] > 0:
                room = min(room, int(left / price[1]))
        return room, None

    def _reserve(self, worst: Usage, place: int) -> Reservation:
        ticket = Reservation(worst, self._prices[place], place)
        self._open.append(ticket)
        return ticket

    def _exhausted(self, limit: str) -> BudgetExhausted:
        self.cut = self.cut or limit
        return BudgetExhausted(limit)


def _worst(request: Request | ScoreRequest, copies: int) -> Usage:
    """The largest possible cost: a byte-level token is at least one byte."""
    texts = [request.prompt, *(message.content for message in request.chat.messages)]
    prompt = copies * sum(len(text.encode()) + _TEMPLATE_TOKENS for text in texts)
    if isinstance(request, ScoreRequest):
        return Usage(1, prompt + sum(len(text.encode()) for text in request.continuations), 0)
    return Usage(1, prompt, request.sampling.max_tokens * request.n)


def _charged(real: Usage, worst: Usage) -> Usage:
    """The real cost of a request, the largest possible one where it is unknown."""
    prompt = worst.prompt_tokens if real.prompt_tokens is None else real.prompt_tokens
    completion = worst.completion_tokens if real.completion_tokens is None else real.completion_tokens
    return Usage(1, prompt, completion)


def _sum(books: dict[Price, Usage]) -> Usage:
    return sum(books.values(), Usage())


def _dollars(books: dict[Price, Usage]) -> float | None:
    """Of all books together; None as soon as one price or one number of tokens is unknown."""
    dollars = 0.0
    for price, usage in books.items():
        if price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        dollars += usage.prompt_tokens * price[0] + usage.completion_tokens * price[1]
    return dollars


_TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt, and to each message before it."""
_SHORTEST = 16
"""A completion cut below this many tokens is not worth its prompt."""
