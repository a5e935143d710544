"""Counters of the backend."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from treeagent.process_fork import ForkSafeLock


class ClientMetrics:
    """Requests, tokens and times of one backend; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = ForkSafeLock()
        self._counts = dict.fromkeys(("requests", "retries", "failed", "completion_tokens", "labels_out_of_reach"), 0)
        self._unknown = 0  # replies without token counts
        self._waited = 0.0
        self._busy = 0.0  # seconds with at least one active request, up to _since
        self._active = 0
        self._since = 0.0
        self._latencies = array("d")

    def count(self, name: str, more: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += more

    def add_tokens(self, completion_tokens: int | None) -> None:
        """Add the completion tokens of one reply; None where the server does not report them."""
        with self._lock:
            self._counts["completion_tokens"] += completion_tokens or 0
            self._unknown += completion_tokens is None

    def add_wait(self, seconds: float) -> None:
        """Add the time that one request waited for the limits of the server."""
        with self._lock:
            self._waited += seconds

    def begin_request(self) -> None:
        """Count a request as active."""
        with self._lock:
            self._advance()
            self._active += 1

    def end_request(self, latency: float | None) -> None:
        """End an active request, with the seconds to its reply, or None without a reply."""
        with self._lock:
            self._advance()
            self._active -= 1
            if latency is not None:
                self._latencies.append(latency)

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Start measuring; see :meth:`Backend.meter`."""
        start = self._now()

        def read() -> dict[str, Any]:
            counts, unknown, waited, busy, replies = (
                _difference(b, a) for a, b in zip(start, self._now(), strict=True)
            )
            with self._lock:
                latencies = sorted(self._latencies[len(self._latencies) - replies :])
            tokens = None if unknown else counts["completion_tokens"]
            return {
                "http_requests": counts["requests"],
                "retries": counts["retries"],
                "failed": counts["failed"],
                "rate_limit_seconds": round(waited, 3),
                "tokens_per_second": round(tokens / busy, 3) if tokens is not None and busy > 0 else None,
                "latency_p50_seconds": _percentile(latencies, 0.50),
                "latency_p99_seconds": _percentile(latencies, 0.99),
                "labels_out_of_reach": counts["labels_out_of_reach"],
            }

        return read

    def _now(self) -> tuple[dict[str, int], int, float, float, int]:
        with self._lock:
            self._advance()
            return dict(self._counts), self._unknown, self._waited, self._busy, len(self._latencies)

    def _advance(self) -> None:
        now = self._clock()
        if self._active:
            self._busy += now - self._since
        self._since = now


def _difference(late: Any, early: Any) -> Any:
    return {name: late[name] - early[name] for name in late} if isinstance(late, dict) else late - early


def _percentile(ordered: list[float], share: float) -> float | None:
    """Percentile by nearest rank; None without values."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None
