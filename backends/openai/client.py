"""One JSON request over HTTP: sent again where that can help, given up with one clear line where it cannot."""

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

from .metrics import Figures
from .retry import RetryClock, Transient, asked_wait, back_off, retryable, used_up

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: less than uvicorn's 5 and llama.cpp's 5, so that they do not close first."""
CONNECT = 10.0
"""Seconds for a connection."""
SPREAD = 0.25
"""Seconds over which requests that waited for the same moment are spread."""


class Rejected(BackendError):
    """The server will not answer this request, however often it is sent."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient a client is."""

    concurrency: int
    """Requests under way at once, per event loop."""
    timeout: float
    """Seconds for one attempt."""
    patience: float
    """Seconds for one request with all its attempts and waits."""
    attempts: int


@dataclass(frozen=True, slots=True)
class _Session:
    """What belongs to one event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    holder: AsyncGenerator[None, None]


class Client:
    """Sends requests from whatever event loop it is called in; connections are the loop's own and end with it."""

    def __init__(self, limits: Limits, key: str | None, clock: RetryClock, figures: Figures) -> None:
        self._limits, self._key, self._clock, self._figures = limits, key, clock, figures
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._open_at = 0.0  # the server has asked for silence until then

    async def send(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers with.

        Raises Rejected where it refuses, BackendError where it cannot be reached or does not answer in time.
        """
        session = await self._session(url)
        began, clock, limits = self._clock.monotonic(), self._clock, self._limits

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait if isinstance(error, Transient) else None
            alone = back_off(state.attempt_number, clock.chance())
            return alone if asked is None else max(asked + SPREAD * clock.chance(), alone)

        def stop(state: RetryCallState) -> bool:
            spent = clock.monotonic() - began
            return state.attempt_number >= limits.attempts or spent + state.upcoming_sleep > limits.patience

        def again(state: RetryCallState) -> None:
            self._figures.count("retries")
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, Transient) and error.limited:
                self._figures.waited(state.upcoming_sleep)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Transient), wait=wait, stop=stop, sleep=clock.sleep, before_sleep=again,
            reraise=True,
        )  # fmt: skip
        tries = 0

        async def attempt() -> dict[str, Any]:
            nonlocal tries
            tries += 1
            return await self._attempt(session, method, url, body, limits.patience - (clock.monotonic() - began))

        async with session.slots:
            began = clock.monotonic()  # waiting for a turn is nobody's fault
            try:
                return await retrying(attempt)
            except Transient as last:
                self._figures.count("failed")
                asked = "" if last.wait is None else f"; the server asks to wait {last.wait:,.0f} s"
                raise BackendError(
                    f"{url}: {last}{asked} (given up after {tries} attempt{'s' * (tries > 1)} and "
                    f"{clock.monotonic() - began:,.0f} s; options: attempts={limits.attempts}, "
                    f"patience={limits.patience:g}, timeout={limits.timeout:g})"
                ) from last
            except BackendError:
                self._figures.count("failed")
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
        """One try. Raises Transient or Rejected."""
        clock = self._clock
        silence = self._open_at - clock.monotonic()
        if silence > left:
            raise Transient("the server's rate limit", limited=True, wait=silence)
        if silence > 0:
            self._figures.waited(silence)
            await clock.sleep(silence + SPREAD * clock.chance())
        seconds = min(self._limits.timeout, left - max(silence, 0.0))
        self._figures.count("requests")
        self._figures.began()
        began, latency = clock.monotonic(), None
        try:
            response = await clock.within(session.client.request(method, url, json=body), seconds)
            latency = clock.monotonic() - began
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise Transient(f"no answer within {seconds:g} s") from error
        except httpx.TransportError as error:
            raise self._unreachable(error, url) from error
        except httpx.HTTPError as error:
            raise BackendError(f"{url}: the answer cannot be read: {self._clean(str(error))}") from error
        finally:
            self._figures.ended(latency)
        return self._read(response, url)

    def _unreachable(self, error: httpx.TransportError, url: str) -> Exception:
        said = self._clean(str(error)) or type(error).__name__
        if "CERTIFICATE" in said.upper():
            return BackendError(f"{url}: the server's certificate is not trusted: {said}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Transient(f"cannot connect ({said}); is the server running, and is base_url right?")
        return Transient(f"the connection broke ({said})")

    def _read(self, response: httpx.Response, url: str) -> dict[str, Any]:
        """The answer's object; what it says of limits is remembered. Raises Transient or Rejected."""
        clock, status = self._clock, response.status_code
        payload = _object(response)
        said, code = _error(payload, status)
        if status < 400 and code is not None:
            status = code  # some gateways send an error with status 200
        if 200 <= status < 300 and payload is not None and said is None:
            if (silence := used_up(response.headers, clock.now())) is not None:
                self._be_silent(silence)
            return payload
        if retryable(status):
            wait = asked_wait(response.headers, clock.now())
            limited = status == 429 or wait is not None
            if limited and wait is not None:
                self._be_silent(wait)
            what = f"{status} {response.reason_phrase}".strip()
            raise Transient(f"{what}: {self._clean(said or response.text)}", limited=limited, wait=wait)
        if said is None and (200 <= status < 300):
            kind = response.headers.get("content-type", "no content type")
            raise Rejected(
                f"{url}: the answer is not a JSON object but {kind}: {self._clean(response.text) or 'nothing'}"
                f"{_hint(url, status)}",
                status,
            )
        raise Rejected(
            f"{url}: {status} {response.reason_phrase}: {self._clean(said or response.text)}{_hint(url, status)}",
            status,
        )

    def _be_silent(self, seconds: float) -> None:
        """Nothing is sent for so long, by no request: those beside would be refused as well."""
        self._open_at = max(self._open_at, self._clock.monotonic() + seconds)

    def _clean(self, text: str) -> str:
        """One short line, in which no key stands."""
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
        found = response.json()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _error(payload: dict[str, Any] | None, status: int) -> tuple[str | None, int | None]:
    """What the server says went wrong, in the several forms there are, and the status that it gives in the text."""
    if payload is None:
        return None, None
    found = payload.get("error") or (payload if payload.get("object") == "error" else None)
    if found is None:
        told = (payload.get("detail") or payload.get("message")) if status >= 400 else None
        return (None, None) if told is None else (told if isinstance(told, str) else json.dumps(told), None)
    if isinstance(found, dict):
        code = found.get("code")
        return str(found.get("message") or json.dumps(found)), code if isinstance(code, int) and code >= 400 else 400
    return str(found), 400


def _hint(url: str, status: int) -> str:
    if status in (401, 403):
        return "; is the key in the environment variable that key_variable names (OPENAI_API_KEY) right?"
    if (status == 404 or status < 400) and "/v1/" not in url:
        return "; does base_url lack the ending /v1?"
    return ""


_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|hf)[-_][\w*.-]{8,}")
"""What looks like a key, such as a server's quotation of the one it refuses."""
_SECRET = 8
"""Characters from which on a key is one, and no word such as "none" that a local server is content with."""
_SHOWN = 300
"""Characters of a server's message."""
