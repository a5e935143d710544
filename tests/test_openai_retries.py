"""When the backend ``openai`` tries again, how long it waits, and when it gives up. No test waits."""

from __future__ import annotations

import asyncio

import pytest
from failing_server import REQUEST, Case
from failing_server import case as case  # noqa: PLC0414  the fixture
from openai_server import Answer, Asked, Model, error


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again_with_growing_waits(case: Case, status: int) -> None:
    """Half of 0.5, 1 and 2 seconds, the least that the jitter leaves."""
    meter = (backend := case.backend()).meter()
    case.script = [error(status, "later")] * 3
    reply = asyncio.run(backend.generate(REQUEST))
    assert len(reply.completions) == 1
    assert case.time.slept == [0.25, 0.5, 1.0]
    assert len(case.server.asked) == 4
    figures = meter()
    assert (figures["http_requests"], figures["retries"], figures["failed"]) == (4, 3, 0)
    assert figures["rate_limit_seconds"] == (1.75 if status == 429 else 0)


def test_the_jitter_doubles_a_wait_at_most(case: Case) -> None:
    """Chance 1 is the whole of the doubled time, which ends at 30 seconds."""
    case.fails(*[error(500, "no")] * 9, clock={"chance": lambda: 1.0}, attempts=9)
    assert case.time.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_said_once_in_one_line(case: Case, status: int) -> None:
    """With the server's message, status and URL."""
    text = case.fails(error(status, "this\nis why"))
    assert "this is why" in text
    assert str(status) in text
    assert f"{case.server.url}/chat/completions" in text
    assert len(case.server.asked) == 1


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "Thu, 01 Jan 2026 00:00:09 GMT"}, 9.0),
        ({"retry_after": "3", "x_ratelimit_reset_requests": "50s"}, 3.0),
        ({"x_ratelimit_reset_tokens": "6m0s", "x_ratelimit_remaining_tokens": "0"}, 360.0),
        (
            {"x_ratelimit_reset_tokens": "2m", "x_ratelimit_remaining_tokens": "900",
             "x_ratelimit_reset_requests": "12s", "x_ratelimit_remaining_requests": "0"}, 12.0,
        ),
        ({"x_ratelimit_reset": "1767225620"}, 20.0),
        ({"x_ratelimit_reset": "1767225620000"}, 20.0),
        ({"x_ratelimit_reset_requests": "750ms"}, 0.75),
        ({"retry_after": "soon"}, 0.25),
    ],
)  # fmt: skip
def test_the_servers_own_word_on_when_to_come_back_is_kept(case: Case, headers: dict[str, str], wait: float) -> None:
    """Retry-After in each of its forms, else the reset of what is used up; nonsense is as good as nothing."""
    case.ask(error(429, "slow down", **headers))
    assert case.time.slept == [pytest.approx(wait)]


def test_a_limit_that_one_request_meets_holds_the_others_back(case: Case) -> None:
    """A request that begins during the server's waiting time is sent after it."""
    backend = case.backend()
    meter = backend.meter()

    async def run() -> None:
        waiting, may = asyncio.Event(), asyncio.Event()

        async def stand_still(seconds: float) -> None:
            case.time.slept.append(seconds)
            waiting.set()
            await may.wait()

        backend.clock = case.time.clock(sleep=stand_still)
        case.script = [error(429, "slow down", retry_after="20")]
        first = asyncio.ensure_future(backend.generate(REQUEST))
        await waiting.wait()
        waiting.clear()
        second = asyncio.ensure_future(backend.generate(REQUEST))
        await waiting.wait()
        assert case.time.slept == [20.0, 20.0]
        assert len(case.server.asked) == 1
        may.set()
        case.time.at += 20
        await asyncio.gather(first, second)

    asyncio.run(run())
    assert len(case.server.asked) == 3
    assert meter()["rate_limit_seconds"] == 40.0


def test_after_the_last_request_of_a_limit_the_next_one_waits(case: Case) -> None:
    """``remaining`` 0 on a good answer: the next request waits for the reset, and is never refused."""
    backend = case.backend()
    good = Model()

    def last(asked: Asked) -> Answer:
        answer = good(asked)
        answer.headers |= {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8s"}
        return answer

    case.script = [last]
    asyncio.run(backend.generate(REQUEST))
    assert case.time.slept == []
    asyncio.run(backend.generate(REQUEST))
    assert case.time.slept == [8.0]


def test_attempts_come_to_an_end(case: Case) -> None:
    """The line says how often, how long, and which options rule that."""
    text = case.fails(*[error(503, "overloaded")] * 9, attempts=3)
    assert len(case.server.asked) == 3
    for part in ("503", "overloaded", "3 attempts", "attempts=3", "patience=900"):
        assert part in text


def test_patience_comes_to_an_end(case: Case) -> None:
    """A wait that would end after it is not begun."""
    text = case.fails(*[error(503, "overloaded")] * 99, attempts=99, patience=10)
    assert sum(case.time.slept) <= 10
    assert len(case.time.slept) > 3
    assert "patience=10" in text
    assert "the server asks to wait 3,600 s" in case.fails(error(429, "no", retry_after="3600"))


def test_the_last_attempt_gets_no_more_time_than_is_left(case: Case) -> None:
    """``timeout`` is for one attempt, and never goes past ``patience``."""
    case.ask(error(429, "no", retry_after="90"), timeout=60, patience=100)
    assert case.time.limits == [60.0, pytest.approx(10.0)]
