"""The ledger alone: admission in order, reservations, and what is booked."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from treeagent import Budget, ConfigError, Key, Request, Sampling, ScoreRequest, Usage
from treeagent.runtime.budget import BudgetExhausted, Ledger

EXTRA = 64  # what the ledger allows for a chat template


def request(max_tokens: int = 20, n: int = 1, prompt: str = "0123456789") -> Request:
    return Request(prompt, Key(0, "value", "root"), Sampling(max_tokens=max_tokens), n)


def run(steps: Any) -> None:
    asyncio.run(steps())


@pytest.mark.parametrize("limit", ["calls", "tokens", "seconds", "nodes", "dollars"])
@pytest.mark.parametrize("amount", [-1, math.nan, -0.5])
def test_a_limit_below_zero_is_refused(limit: str, amount: float) -> None:
    """The error names the limit."""
    with pytest.raises(ConfigError, match=limit):
        Budget(**{limit: amount})


def test_no_limit_admits_everything_unchanged() -> None:
    """Without limits a request passes as it is."""

    async def steps() -> None:
        ledger = Ledger(Budget())
        for _ in range(3):
            admitted, _ = await ledger.admit(request(10**6, 50))
            assert admitted == request(10**6, 50)

    run(steps)


def test_a_prompt_is_reserved_as_often_as_it_may_be_counted() -> None:
    """One copy fits, two do not; continuations of a scoring are counted once each."""

    async def steps() -> None:
        worst = 10 + EXTRA + 20
        for copies, fits in ((1, True), (2, False)):
            ledger = Ledger(Budget(tokens=worst + 9))
            if fits:
                await ledger.admit(request(), 0, copies)
            else:
                with pytest.raises(BudgetExhausted):
                    await ledger.admit(request(), 0, copies)
        scoring = ScoreRequest("0123456789", ("abc", "de"))
        _ = await Ledger(Budget(tokens=3 * (10 + EXTRA) + 5)).admit_score(scoring, 0, 3)
        with pytest.raises(BudgetExhausted):
            await Ledger(Budget(tokens=3 * (10 + EXTRA) + 4)).admit_score(scoring, 0, 3)

    run(steps)


def test_reservations_count_until_they_are_settled() -> None:
    """A second request waits for the first one's real cost, and is admitted whole where that leaves room."""

    async def steps() -> None:
        worst = 10 + EXTRA + 20
        ledger = Ledger(Budget(tokens=worst + worst - 1))
        _, first = await ledger.admit(request())
        second = asyncio.ensure_future(ledger.admit(request()))
        await asyncio.sleep(0)
        assert not second.done()
        ledger.settle(first, Usage(1, 10, 3))
        admitted, _ = await second
        assert admitted.sampling.max_tokens == 20

    run(steps)


def test_waiters_are_admitted_in_the_order_they_asked() -> None:
    """A small request does not overtake a large one that waits."""

    async def steps() -> None:
        ledger = Ledger(Budget(tokens=300))
        _, first = await ledger.admit(request(150))
        order: list[int] = []

        async def ask(size: int) -> None:
            await ledger.admit(request(size))
            order.append(size)

        asking = [asyncio.ensure_future(ask(size)) for size in (100, 1)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == []
        ledger.settle(first, Usage(1, 1, 1))
        await asyncio.gather(*asking)
        assert order == [100, 1]

    run(steps)


def test_completions_are_shortened_evenly_and_never_below_what_is_worth_it() -> None:
    """``max_tokens`` shrinks to what is left for each of the n; under 16 tokens (or the wish) nothing is asked."""

    async def steps(left: int, n: int) -> int | None:
        ledger = Ledger(Budget(tokens=10 + EXTRA + left))
        try:
            admitted, ticket = await ledger.admit(request(100, n))
        except BudgetExhausted:
            return None if ledger.cut == "tokens" else -1
        assert (ticket.worst.tokens or 0) <= 10 + EXTRA + left
        return admitted.sampling.max_tokens

    assert asyncio.run(steps(50, 1)) == 50
    assert asyncio.run(steps(50, 3)) == 16
    assert asyncio.run(steps(47, 3)) is None
    assert asyncio.run(steps(16, 1)) == 16
    assert asyncio.run(steps(15, 1)) is None
    assert asyncio.run(steps(900, 3)) == 100


def test_prompts_are_reserved_by_their_bytes() -> None:
    """A byte-level tokenizer makes at most one token a byte, so é counts as two."""

    async def steps() -> None:
        ledger = Ledger(Budget(tokens=2 * 10 + EXTRA + 16 - 1))
        with pytest.raises(BudgetExhausted):
            await ledger.admit(request(prompt="é" * 10))

    run(steps)


def test_once_refused_nothing_slips_in() -> None:
    """After the first refusal smaller requests are refused too, scorings as well: the cut is one place."""

    async def steps() -> None:
        ledger = Ledger(Budget(tokens=200))
        with pytest.raises(BudgetExhausted):
            await ledger.admit(request(prompt="x" * 500))
        with pytest.raises(BudgetExhausted):
            await ledger.admit(request(1, prompt=""))
        with pytest.raises(BudgetExhausted):
            await ledger.admit_score(ScoreRequest("", ()))

    run(steps)


def test_scorings_reserve_prompt_and_continuations() -> None:
    """Nothing is generated, so only the texts count."""

    async def steps() -> None:
        ledger = Ledger(Budget(tokens=EXTRA + 6))
        await ledger.admit_score(ScoreRequest("abc", ("d", "ef")))
        short = Ledger(Budget(tokens=EXTRA + 5))
        with pytest.raises(BudgetExhausted):
            await short.admit_score(ScoreRequest("abc", ("d", "ef")))

    run(steps)


def test_a_failed_request_costs_a_call_and_frees_its_tokens() -> None:
    """Cancelled or failed: nothing else is known about it."""

    async def steps() -> None:
        ledger = Ledger(Budget(calls=2))
        for _ in range(2):
            _, ticket = await ledger.admit(request())
            ledger.settle(ticket, None)
        assert ledger.spent == Usage(calls=2)
        with pytest.raises(BudgetExhausted):
            await ledger.admit(request())

    run(steps)


def test_unknown_tokens_are_shown_as_unknown_and_charged_at_worst() -> None:
    """A backend that does not tell gets None on the bill; the limit still holds, in tokens and in dollars."""

    async def steps() -> None:
        worst = 10 + EXTRA + 20
        for budget in (Budget(tokens=2 * worst), Budget(dollars=2 * worst)):
            ledger = Ledger(budget, (1.0, 1.0))
            for _ in range(2):
                _, ticket = await ledger.admit(request())
                ledger.settle(ticket, Usage(1, None, None))
            assert ledger.spent == Usage(2, None, None, None)
            with pytest.raises(BudgetExhausted):
                await ledger.admit(request())

    run(steps)


def test_dollars_come_from_tokens_whatever_the_order() -> None:
    """The bill is counted from token sums, so no order of booking can round it differently."""

    async def bill(order: list[int]) -> float | None:
        ledger = Ledger(Budget(), (0.1, 0.3))
        tickets = [(await ledger.admit(request()))[1] for _ in order]
        for index in order:
            ledger.settle(tickets[index], Usage(1, 3 * index + 1, 7 * index))
        return ledger.spent.dollars

    bills = {asyncio.run(bill(order)) for order in ([0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 0, 1])}
    assert bills == {22 * 0.1 + 42 * 0.3}


def test_a_price_is_needed_for_dollars_and_free_tokens_are_free() -> None:
    """No price: refused. A free model never runs out of dollars, not even of none."""
    with pytest.raises(ConfigError, match="price"):
        Ledger(Budget(dollars=1.0))

    async def steps() -> None:
        ledger = Ledger(Budget(dollars=0), (0.0, 0.0))
        admitted, _ = await ledger.admit(request())
        assert admitted == request()

    run(steps)


def test_a_cancelled_waiter_does_not_stop_the_queue() -> None:
    """Who gives up waiting leaves the turn to the next."""

    async def steps() -> None:
        ledger = Ledger(Budget(calls=1))
        _, first = await ledger.admit(request())
        waiting = [asyncio.ensure_future(ledger.admit(request())) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        ledger.settle(first, Usage(1, 1, 1))
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert [type(result) for result in results] == [asyncio.CancelledError, BudgetExhausted, BudgetExhausted]

    run(steps)


def test_nodes_are_given_as_far_as_they_go() -> None:
    """The limit itself is still allowed."""
    ledger = Ledger(Budget(nodes=2))
    assert (ledger.take_nodes(1), ledger.cut) == (1, None)
    assert (ledger.take_nodes(3), ledger.cut) == (1, "nodes")
    with pytest.raises(BudgetExhausted, match="nodes"):
        ledger.take_nodes(1)
    assert (ledger.nodes, ledger.cut) == (2, "nodes")


def test_usage_adds_and_unknown_stays_unknown() -> None:
    """None is contagious: a sum with an unknown part is unknown."""
    assert Usage(1, 2, 3, 0.5) + Usage(1, 5, 7, 0.25) == Usage(2, 7, 10, 0.75)
    assert (Usage(1, None, 3) + Usage(1, 5, 7)).tokens is None
    assert Usage(1, 2, None).tokens is None
    assert (Usage(1, 2, 3, 0.5) + Usage(1, 2, 3)).dollars is None
