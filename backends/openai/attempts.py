"""The attempts of one request: how long to wait between them, when to give up, and what is said then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from treeagent.errors import BackendError

from .metrics import ClientMetrics
from .retry import RetryClock, TransientError, back_off

T = TypeVar("T")

SPREAD = 0.25
"""Seconds over which requests are spread after a common wait."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits of a client on requests and time."""

    concurrency: int
    """Requests at one time, per event loop."""
    timeout: float
    """Seconds for one attempt."""
    patience: float
    """Seconds for one request including all attempts and waits."""
    attempts: int


class Attempts:
    """Repeats one request until it succeeds or the limits are reached; made when the request begins."""

    def __init__(self, url: str, limits: ClientLimits, clock: RetryClock, figures: ClientMetrics) -> None:
        self._url, self._limits, self._clock, self._metrics = url, limits, clock, figures
        self._began = clock.monotonic()
        self._count = 0

    async def run(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """The result of the first attempt that succeeds; each is told the seconds that are left.

        Raises BackendError when the last one fails, and what else an attempt raises.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError), wait=self._wait, stop=self._stop,
            sleep=self._clock.sleep, before_sleep=self._before_retry, reraise=True,
        )  # fmt: skip

        async def counted() -> T:
            self._count += 1
            return await attempt(self._limits.patience - self._spent)

        try:
            return await retrying(counted)
        except TransientError as last:
            self._metrics.count("failed")
            raise BackendError(self._message(last)) from last
        except BackendError:
            self._metrics.count("failed")
            raise

    @property
    def _spent(self) -> float:
        return self._clock.monotonic() - self._began

    def _wait(self, state: RetryCallState) -> float:
        requested = error.wait if (error := _failure(state)) is not None else None
        default = back_off(state.attempt_number, self._clock.chance())
        return default if requested is None else max(requested + SPREAD * self._clock.chance(), default)

    def _stop(self, state: RetryCallState) -> bool:
        limits = self._limits
        return state.attempt_number >= limits.attempts or self._spent + state.upcoming_sleep > limits.patience

    def _before_retry(self, state: RetryCallState) -> None:
        self._metrics.count("retries")
        if (error := _failure(state)) is not None and error.limited:
            self._metrics.add_wait(state.upcoming_sleep)

    def _message(self, last: TransientError) -> str:
        limits, requested = self._limits, "" if last.wait is None else f"; the server asks to wait {last.wait:,.0f} s"
        return (
            f"{self._url}: {last}{requested} (given up after {self._count} attempt{'s' * (self._count > 1)} and "
            f"{self._spent:,.0f} s; options: attempts={limits.attempts}, "
            f"patience={limits.patience:g}, timeout={limits.timeout:g})"
        )


def _failure(state: RetryCallState) -> TransientError | None:
    """The error of the attempt that has just failed."""
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TransientError) else None
