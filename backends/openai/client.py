"""JSON requests over HTTP with retries; a request that cannot succeed raises one clear error."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from treeagent.errors import BackendError, ConfigError
from treeagent.process_fork import ForkSafeLock

from .answers import Credentials, HttpReply, read_answer
from .attempts import SPREAD, Attempts, ClientLimits
from .body import EncodingError, OversizeError, read_body, reply_limit
from .event_stream import CONTENT_TYPE, EventStream, read_events
from .metrics import ClientMetrics
from .proxies import ServerProxy, proxy_for
from .retry import RetryClock, TransientError
from .slots import Slots

Arrived: TypeAlias = "Callable[[EventStream], None]"

KEEP_ALIVE = 4.0
"""Seconds to keep an idle connection: less than the 5 of uvicorn and llama.cpp, so that it closes first."""
CONNECT = 10.0
"""Time limit for a connection, in seconds."""


@dataclass(frozen=True, slots=True)
class _Session:
    """Connections and slots of one event loop."""

    client: httpx.AsyncClient
    slots: Slots
    holder: AsyncGenerator[None, None]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent in every attempt."""

    method: str
    url: str
    body: dict[str, Any] | None
    arrived: Arrived | None
    """Takes the events of a streamed reply; None where the reply is read at once."""

    @property
    def content(self) -> bytes | None:
        """The body as bytes."""
        return None if self.body is None else json.dumps(self.body).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a body; events are asked for uncompressed, as a compressor would hold them back."""
        headers = {"Content-Type": "application/json"}
        return headers if self.arrived is None else {**headers, "Accept": "*/*", "Accept-Encoding": "identity"}


class Client:
    """Sends requests from any event loop; each loop has its own connections, which close with it."""

    def __init__(
        self, limits: ClientLimits, credentials: Credentials, clock: RetryClock, figures: ClientMetrics
    ) -> None:
        self._limits, self._credentials, self._clock, self._metrics = limits, credentials, clock, figures
        self._proxy: ServerProxy | None = None
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}
        self._lock = ForkSafeLock()
        self._tls: ssl.SSLContext | None = None
        self._paused_until = 0.0  # no request is sent before this time

    async def send(
        self, method: str, url: str, body: dict[str, Any] | None = None, arrived: Arrived | None = None
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of the reply, without the key and without lone surrogates.

        ``arrived`` is called with what every event of a streamed reply adds; an attempt that fails begins anew.

        Raises Rejected when the server refuses it, BackendError when it is unreachable, too slow or sends a reply that
        is too long, and ConfigError when the environment names an impossible proxy.
        """
        session, request = await self._session(url), HttpRequest(method, url, body, arrived)

        async def attempts() -> dict[str, Any]:
            tries = Attempts(url, self._limits, self._clock, self._metrics)  # the wait for a slot does not count
            return await tries.run(lambda left: self._attempt(session, request, left))

        return await session.slots.run(attempts)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        with self._lock:
            session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.holder.aclose()

    async def _attempt(self, session: _Session, request: HttpRequest, left: float) -> dict[str, Any]:
        """One attempt. Raises TransientError or Rejected."""
        clock, url, body = self._clock, request.url, request.body
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
        limit = reply_limit(body, len(request.content or b""))
        try:
            reply = await clock.within(self._exchange(session.client, request, limit), seconds)
            latency = clock.monotonic() - began
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise TransientError(f"no answer within {seconds:g} s") from error
        except OversizeError as error:
            raise BackendError(
                f"{url}: the reply is longer than {limit:,} bytes, more than the request allows for"
                f"{_asked_for(body)}; does the server keep to max_tokens?"
            ) from error
        except EncodingError as error:
            raise BackendError(f"{url}: the reply cannot be read: {error}") from error
        except httpx.TransportError as error:
            raise self._unreachable(error, url) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BackendError(f"{url}: the answer cannot be read: {self._credentials.clean(str(error))}") from error
        finally:
            self._metrics.end_request(latency)
        try:
            payload, pause_after = read_answer(reply, url, self._credentials, clock.now())
        except TransientError as error:
            if error.limited and error.wait is not None:
                self._pause(error.wait)
            raise
        if pause_after is not None:
            self._pause(pause_after)
        return payload

    async def _exchange(self, client: httpx.AsyncClient, sent: HttpRequest, limit: int) -> HttpReply:
        """Send a body and read the reply, at most ``limit`` bytes of it."""
        query = self._credentials.query
        request = client.build_request(
            sent.method,
            sent.url if query is None else f"{sent.url}?{query}",
            content=sent.content,
            headers=None if sent.content is None else sent.headers,
        )
        response = await client.send(request, stream=True)
        try:
            encoding = response.headers.get("content-encoding", "")
            if sent.arrived is not None and response.status_code < 400 and _is_stream(response):
                events = await read_events(response.aiter_raw(), limit, sent.arrived)
                if not events.complete:
                    raise TransientError("the stream of the reply broke off before its end")
                body = events.body()
            else:
                body = await read_body(response.aiter_raw(), encoding, limit)
        finally:
            await response.aclose()
        return HttpReply(response.status_code, response.reason_phrase, response.headers, body)

    def _unreachable(self, error: httpx.TransportError, url: str) -> Exception:
        reason = self._credentials.clean(str(error)) or type(error).__name__
        by = "" if self._proxy is None else f" through the proxy {self._proxy.shown} of {self._proxy.source}"
        if "CERTIFICATE" in reason.upper():
            return BackendError(f"{url}: the server's certificate is not trusted: {reason}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            hint = "is the proxy right? no_proxy lists hosts without one" if by else "is the server running"
            return TransientError(f"cannot connect{by} ({reason}); {hint}, and is base_url right?")
        return TransientError(f"the connection broke{by} ({reason})")

    def _pause(self, seconds: float) -> None:
        """Send no request for this time: a rate limit holds for all requests."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

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
        session = _Session(client, Slots(self._limits.concurrency), holder)
        with self._lock:
            self._sessions[loop] = session
        return session

    def _connect(self, url: str) -> httpx.AsyncClient:
        with self._lock:
            if self._tls is None and url.startswith("https"):
                self._tls = httpx.create_ssl_context()  # reads all certificates: once is enough
        self._proxy = proxy = proxy_for(url)
        try:
            return httpx.AsyncClient(
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip, deflate",
                    **self._credentials.headers(),
                },
                verify=self._tls or False,  # plain http has nothing to verify
                timeout=httpx.Timeout(None, connect=CONNECT),
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
                trust_env=False,  # proxies are read by proxy_for
                proxy=None if proxy is None else proxy.url,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            source = "a proxy" if proxy is None else proxy.source
            raise ConfigError(f"{source} cannot be used: {self._credentials.clean(str(error))}") from error


async def _until_closed(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.aclose()


def _is_stream(response: httpx.Response) -> bool:
    """Whether the reply comes as events; a server that cannot stream sends it at once."""
    kind = str(response.headers.get("content-type", ""))
    return kind.partition(";")[0].strip().lower() == CONTENT_TYPE


def _asked_for(body: dict[str, Any] | None) -> str:
    """The limits of a request, in brackets."""
    fields = {name: (body or {}).get(name) for name in ("max_tokens", "max_completion_tokens", "n")}
    words = ", ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
    return words and f" ({words})"
