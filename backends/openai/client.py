"""JSON requests over HTTP with retries; a request that cannot succeed raises one clear error."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from treeagent.errors import BackendError

from .metrics import ClientMetrics
from .retry import RetryClock, TransientError, back_off, exhausted_wait, requested_wait, retryable

KEEP_ALIVE = 4.0
"""Seconds to keep an idle connection: less than the 5 of uvicorn and llama.cpp, so that it closes first."""
CONNECT = 10.0
"""Time limit for a connection, in seconds."""
SPREAD = 0.25
"""Seconds over which requests are spread after a common wait."""


class Rejected(BackendError):
    """The server refuses this request for good; a retry cannot succeed."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


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


@dataclass(frozen=True, slots=True)
class _Session:
    """Connections and slots of one event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    holder: AsyncGenerator[None, None]


class Client:
    """Sends requests from any event loop; each loop has its own connections, which close with it."""

    def __init__(self, limits: ClientLimits, key: str | None, clock: RetryClock, figures: ClientMetrics) -> None:
        self._limits, self._key, self._clock, self._metrics = limits, key, clock, figures
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._paused_until = 0.0  # no request is sent before this time

    async def send(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return the JSON object of the reply.

        Raises Rejected when the server refuses it, BackendError when it is unreachable or too slow.
        """
        session = await self._session(url)
        began, clock, limits = self._clock.monotonic(), self._clock, self._limits

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            requested = error.wait if isinstance(error, TransientError) else None
            default = back_off(state.attempt_number, clock.chance())
            return default if requested is None else max(requested + SPREAD * clock.chance(), default)

        def stop(state: RetryCallState) -> bool:
            spent = clock.monotonic() - began
            return state.attempt_number >= limits.attempts or spent + state.upcoming_sleep > limits.patience

        def before_retry(state: RetryCallState) -> None:
            self._metrics.count("retries")
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, TransientError) and error.limited:
                self._metrics.add_wait(state.upcoming_sleep)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError), wait=wait, stop=stop, sleep=clock.sleep,
            before_sleep=before_retry, reraise=True,
        )  # fmt: skip
        tries = 0

        async def attempt() -> dict[str, Any]:
            nonlocal tries
            tries += 1
            return await self._attempt(session, method, url, body, limits.patience - (clock.monotonic() - began))

        async with session.slots:
            began = clock.monotonic()  # the wait for a slot does not count
            try:
                return await retrying(attempt)
            except TransientError as last:
                self._metrics.count("failed")
                requested = "" if last.wait is None else f"; the server asks to wait {last.wait:,.0f} s"
                raise BackendError(
                    f"{url}: {last}{requested} (given up after {tries} attempt{'s' * (tries > 1)} and "
                    f"{clock.monotonic() - began:,.0f} s; options: attempts={limits.attempts}, "
                    f"patience={limits.patience:g}, timeout={limits.timeout:g})"
                ) from last
            except BackendError:
                self._metrics.count("failed")
                raise

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        with self._lock:
            session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.holder.aclose()

    async def _attempt(
        self, session: _Session, method: str, url: str, body: dict[str, Any] | None, left: float
    ) -> dict[str, Any]:
        """One attempt. Raises TransientError or Rejected."""
        clock = self._clock
        pause = self._paused_until - clock.monotonic()
        if pause > left:
            raise TransientError("the server's rate limit", limited=True, wait=pause)
        if pause > 0:
            self._metrics.add_wait(pause)
            await clock.sleep(pause + SPREAD * clock.chance())
        seconds = min(self._limits.timeout, left - max(pause, 0.0))
        self._metrics.count("requests")
        self._metrics.begin_request()
        began, latency = clock.monotonic(), None
        try:
            response = await clock.within(session.client.request(method, url, json=body), seconds)
            latency = clock.monotonic() - began
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise TransientError(f"no answer within {seconds:g} s") from error
        except httpx.TransportError as error:
            raise self._unreachable(error, url) from error
        except httpx.HTTPError as error:
            raise BackendError(f"{url}: the answer cannot be read: {self._clean(str(error))}") from error
        finally:
            self._metrics.end_request(latency)
        return self._read(response, url)

    def _unreachable(self, error: httpx.TransportError, url: str) -> Exception:
        reason = self._clean(str(error)) or type(error).__name__
        if "CERTIFICATE" in reason.upper():
            return BackendError(f"{url}: the server's certificate is not trusted: {reason}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return TransientError(f"cannot connect ({reason}); is the server running, and is base_url right?")
        return TransientError(f"the connection broke ({reason})")

    def _read(self, response: httpx.Response, url: str) -> dict[str, Any]:
        """Read the object of a reply and the limits in its headers. Raises TransientError or Rejected."""
        clock, status = self._clock, response.status_code
        payload = _object(response)
        message, code = _error(payload, status)
        if status < 400 and code is not None:
            status = code  # some gateways send an error with status 200
        if 200 <= status < 300 and payload is not None and message is None:
            if (pause := exhausted_wait(response.headers, clock.now())) is not None:
                self._pause(pause)
            return payload
        if retryable(status):
            wait = requested_wait(response.headers, clock.now())
            limited = status == 429 or wait is not None
            if limited and wait is not None:
                self._pause(wait)
            what = f"{status} {response.reason_phrase}".strip()
            raise TransientError(f"{what}: {self._clean(message or response.text)}", limited=limited, wait=wait)
        if message is None and (200 <= status < 300):
            kind = response.headers.get("content-type", "no content type")
            raise Rejected(
                f"{url}: the answer is not a JSON object but {kind}: {self._clean(response.text) or 'nothing'}"
                f"{_hint(url, status)}",
                status,
            )
        raise Rejected(
            f"{url}: {status} {response.reason_phrase}: {self._clean(message or response.text)}{_hint(url, status)}",
            status,
        )

    def _pause(self, seconds: float) -> None:
        """Send no request for this time: a rate limit holds for all requests."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        if self._key and len(self._key) >= _SECRET:
            text = text.replace(self._key, "***")
        text = " ".join(_KEY.sub("***", text).split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

    async def _session(self, url: str) -> _Session:
        loop = asyncio.get_running_loop()
        with self._lock:
            for closed in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[closed]
            session = self._sessions.get(loop)
        if session is not None:
            return session
        client = self._connect(url)
        # asyncio.run closes asynchronous generators before it closes their loop, and the connections with this one.
        holder = _until_closed(client)
        await anext(holder)  # does not suspend: no other task of this loop can come between
        session = _Session(client, asyncio.Semaphore(self._limits.concurrency), holder)
        with self._lock:
            self._sessions[loop] = session
        return session

    def _connect(self, url: str) -> httpx.AsyncClient:
        with self._lock:
            if self._tls is None and url.startswith("https"):
                self._tls = httpx.create_ssl_context()  # reads all certificates: once is enough
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return httpx.AsyncClient(
            headers={"Accept": "application/json", **headers},
            verify=self._tls or False,  # plain http has nothing to verify
            timeout=httpx.Timeout(None, connect=CONNECT),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
        )


async def _until_closed(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.aclose()


def _object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        payload = response.json()
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _error(payload: dict[str, Any] | None, status: int) -> tuple[str | None, int | None]:
    """The error message of a reply, in the several forms that servers use, and the status in its text."""
    if payload is None:
        return None, None
    error = payload.get("error") or (payload if payload.get("object") == "error" else None)
    if error is None:
        detail = (payload.get("detail") or payload.get("message")) if status >= 400 else None
        return (None, None) if detail is None else (detail if isinstance(detail, str) else json.dumps(detail), None)
    if isinstance(error, dict):
        code = error.get("code")
        return str(error.get("message") or json.dumps(error)), code if isinstance(code, int) and code >= 400 else 400
    return str(error), 400


def _hint(url: str, status: int) -> str:
    if status in (401, 403):
        return "; is the key in the environment variable that key_variable names (OPENAI_API_KEY) right?"
    if (status == 404 or status < 400) and "/v1/" not in url:
        return "; does base_url lack the ending /v1?"
    return ""


_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|hf)[-_][\w*.-]{8,}")
"""Text that looks like a key, such as a quotation of the refused key in an error."""
_SECRET = 8
"""Fewest characters of a key that is masked; shorter ones are words such as "none" for local servers."""
_SHOWN = 300
"""Characters shown of a server's message."""
