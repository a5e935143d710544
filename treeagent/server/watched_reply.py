"""Replies that end with their client: whole ones and event streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .. import aio
from ..jsonl import strict
from .http_errors import HttpError

_SILENCE = 15.0
"""Seconds without an event after which a comment is sent, so that no proxy takes the connection for a dead one."""
_DRAINED = 1 << 28
"""Bytes of an oversized body that are read and dropped, so that its client gets to read the reply."""
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]  # fmt: skip

Work = Callable[[Send], Awaitable[None]]


class JsonReply(JSONResponse):
    """A reply in strict JSON."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return strict(content).encode()


class WatchedReply(Response):
    """Runs work that sends the reply itself, and is cancelled when the client leaves."""

    def __init__(self, work: Work, left: Callable[[], None]) -> None:
        """``left`` is called when the client has left before the work had ended."""
        super().__init__()
        self._work, self._left = work, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        work = asyncio.ensure_future(self._work(send))
        leaving = asyncio.ensure_future(_leaving(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                self._left()
        except OSError:  # the connection broke while the reply was being sent
            self._left()
        finally:
            await aio.cancel([work, leaving])


async def _leaving(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request with JSON. Raises HttpError: 415 for another type, 413 for more than ``limit`` bytes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, f"the body must be application/json, not {kind[:80] or 'of no type'}")
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > limit
    body = bytearray()
    try:
        if not (too_large and "expect" in request.headers):  # a client that asks first has sent nothing
            seen = 0
            async for part in request.stream():
                seen += len(part)
                too_large = too_large or seen > limit
                if too_large:
                    body.clear()
                else:
                    body += part
                if seen > _DRAINED:
                    break
    except ClientDisconnect:
        raise HttpError(400, "the body is cut off") from None
    if too_large:
        raise HttpError(
            413, f"the body has more than {limit:,} bytes", code="body_too_large", headers={"Connection": "close"}
        )
    return bytes(body)


def data_line(value: Any, kind: str | None = None) -> bytes:
    """An event of a stream with a value in JSON; ``kind`` is its type."""
    name = "" if kind is None else f"event: {kind}\n"
    return f"{name}data: {strict(value)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


class OutgoingEvents:
    """Parts of an event stream, which are put while they are being sent."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, part: bytes) -> None:
        """Add a part."""
        self._parts.put_nowait(part)

    async def send(self, send: Send, ending: asyncio.Future[Any]) -> None:
        """Send the head and all parts until ``ending`` has ended; :meth:`close` is to follow."""
        ending.add_done_callback(lambda _: self._parts.put_nowait(None))
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
        part: bytes | None = b""
        while part is not None:
            if not self._parts.empty():
                part = self._parts.get_nowait()
            else:
                try:
                    part = await asyncio.wait_for(self._parts.get(), _SILENCE)
                except asyncio.TimeoutError:
                    part = b": waiting\n\n"
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})

    async def close(self, send: Send, *parts: bytes) -> None:
        """Send the last parts."""
        await send({"type": "http.response.body", "body": b"".join(parts), "more_body": False})
