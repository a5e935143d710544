"""The ASGI application: routes, who may use them, and errors in OpenAI's form."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import server_metrics
from .chat_reply import model_fields
from .http_errors import FAULT, HttpError
from .pages import Pages
from .search_endpoints import SearchEndpoints
from .search_service import SearchService
from .server_metrics import ServerMetrics
from .watched_reply import JsonReply

COOKIE = "treeagent_token"
"""Holds the token for pages, as a browser sends no Authorization header of its own accord."""
_OPEN = "/health"
"""The path that needs no token."""


def make_app(
    service: SearchService, *, token: str | None = None, hosts: Sequence[str] | None = None, most_bytes: int = 1 << 20
) -> Starlette:
    """The application.

    Args:
        service: what runs the searches.
        token: what ``Authorization: Bearer`` must have; None: no token is needed.
        hosts: names in the header ``Host`` that are served, so that no page of another site can reach a server on
            this machine by a name of its own; None: all.
        most_bytes: size of the largest body.
    """
    endpoints, pages = SearchEndpoints(service, most_bytes), Pages(service)
    created = int(time.time())

    async def models(_: Request) -> Response:
        listed = [model_fields(name, created) for name in service.models.names]
        return JsonReply({"object": "list", "data": listed})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        service.models.agent(name)
        return JsonReply(model_fields(name, created))

    async def metrics(_: Request) -> Response:
        text = service.metrics.text(service.queue.running, service.queue.waiting)
        return Response(text, headers={"Content-Type": server_metrics.CONTENT_TYPE})

    async def health(_: Request) -> Response:
        return JsonReply({"status": "ok"})

    async def completions(_: Request) -> Response:
        raise HttpError(
            404, "this server has chat completions only; a client that tries out what a server has must be told so "
            "(treeagent's backend 'openai': chat=true, score=none)",
        )  # fmt: skip

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/events", endpoints.events, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/metrics", metrics),
            Route(_OPEN, health),
            Route("/", pages.index),
            Route("/runs/{id}", pages.run),
            Route("/runs/{id}/data", pages.data),
        ],
        exception_handlers={HttpError: _http_error, HTTPException: _starlette_error, Exception: _fault},
    )
    app.add_middleware(AccessGate, token=token, hosts=hosts, metrics=service.metrics)
    return app


async def _http_error(_: Request, error: Any) -> Response:
    """The reply to an HttpError."""
    return JsonReply(error.to_json(), status_code=error.status, headers=error.headers)


async def _starlette_error(request: Request, error: Any) -> Response:
    """The reply to an HTTPException of starlette: an unknown path, a wrong method."""
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    headers = dict(error.headers) if error.headers else None
    return await _http_error(request, HttpError(error.status_code, message, headers=headers))


async def _fault(request: Request, _: Exception) -> Response:
    """The reply to a fault of this project; the server's log has the traceback."""
    return await _http_error(request, HttpError(500, FAULT, code="internal_error"))


class AccessGate:
    """Lets requests with the token through, and counts all replies."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Sequence[str] | None, metrics: ServerMetrics) -> None:
        self._app, self._token, self._metrics = app, token, metrics
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.replied(message["status"])
            await send(message)

        reply = self._answer(scope)
        await (self._app if reply is None else reply)(scope, receive, counted)

    def _answer(self, scope: Scope) -> Response | None:
        """The reply to a request that may not pass; None for one that may."""
        headers = Headers(scope=scope)
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            return _refusal(403, "this server answers to its own names only; the header Host has another one")
        if self._token is None or scope["path"] == _OPEN or self._has_token(headers, scope["method"]):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and given and self._equal(given):
            reply = RedirectResponse(scope["path"], 303)  # so that the token leaves the address
            reply.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return reply
        message = "the token is missing or wrong; send it in the header 'Authorization: Bearer TOKEN'"
        return _refusal(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _has_token(self, headers: Headers, method: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._equal(given.strip())
        return method == "GET" and self._equal(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))

    def _equal(self, given: str) -> bool:
        return bool(given) and hmac.compare_digest(given.encode(errors="replace"), (self._token or "").encode())


def _refusal(status: int, message: str, **more: Any) -> Response:
    error = HttpError(status, message, **more)
    return JsonReply(error.to_json(), status_code=status, headers=error.headers)


def _host(header: str) -> str:
    """The name in the header ``Host``, without the port."""
    name = header.strip().lower()
    return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
