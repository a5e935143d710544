"""When to retry a request and how long to wait first: the time that the server states, else exponential back-off.

Back-off with jitter after M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); Retry-After as in
RFC 9110, section 10.2.3; ``x-ratelimit-*`` as OpenAI and the servers that follow it send them.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

RETRYABLE = frozenset({408, 409, 429})
"""Statuses below 500 that can be retried; all from 500 on can be retried as well."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt, where the server states none; doubled for each further attempt."""
LONGEST_WAIT = 30.0
"""Longest wait in seconds."""


@dataclass(frozen=True, slots=True)
class RetryClock:
    """Clock and random numbers, which tests replace."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    """Seconds since 1970, for dates in headers."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    within: Callable[[Awaitable[Any], float], Awaitable[Any]] = asyncio.wait_for
    """Awaits with a limit in seconds. Raises TimeoutError."""
    chance: Callable[[], float] = random.random


class TransientError(Exception):
    """One attempt failed in a way that a retry can cure."""

    def __init__(self, message: str, *, limited: bool = False, wait: float | None = None) -> None:
        self.limited = limited
        """Whether the server refused because of a rate limit."""
        self.wait = wait
        """Seconds that the server asks to wait; None where it states none."""
        super().__init__(message)


def retryable(status: int) -> bool:
    """Whether a retry of a request with this status can succeed."""
    return status in RETRYABLE or status >= 500


def back_off(attempt: int, chance: float) -> float:
    """Seconds to wait after the ``attempt``-th attempt (1, 2 ...), between half and all of the doubled time."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * (0.5 + 0.5 * chance))


def requested_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the headers of a refusal; None where they state none.

    Retry-After comes first; without it the longest reset of an exhausted limit, or of any limit.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    if (after := headers.get("retry-after")) is not None and (wait := _seconds_from(after, now)) is not None:
        return wait
    resets = _resets(headers, now)
    return max([wait for left, wait in resets if left == 0] or [wait for _, wait in resets], default=None)


def exhausted_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the headers of a reply allow the next request; None where it is allowed now."""
    return max([wait for left, wait in _resets(headers, now) if left == 0 and wait > 0], default=None)


def _resets(headers: Mapping[str, str], now: float) -> list[tuple[float | None, float]]:
    """The remaining amount and the seconds to the reset of every limit, such as requests and tokens."""
    resets = []
    for name, value in headers.items():
        if match := re.fullmatch(r"x-ratelimit-reset(-[\w-]+)?", name.lower()):
            wait = _seconds_from(value, now)
            if wait is not None:
                resets.append((_number(headers.get(f"x-ratelimit-remaining{match[1] or ''}", "")), wait))
    return resets


_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def _seconds_from(text: str, now: float) -> float | None:
    """Seconds from now: ``20``, ``6m0s``, ``12ms``, seconds or milliseconds since 1970, or an HTTP date."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number > 1e11:  # milliseconds since 1970; the same in seconds is 1e8 times smaller than any wait
            number = number / 1000 - now
        elif number > 1e8:
            number -= now
        return max(0.0, number)
    if text and (match := _SPAN.fullmatch(text)):
        return sum(unit * float(part) for unit, part in zip(_UNITS, match.groups(), strict=True) if part)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, IndexError):
        return None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else None
