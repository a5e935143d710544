"""The endpoints that run searches: chat completions, and the events of a search."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from .. import aio
from ..runtime.events import Event
from ..runtime.result import Result
from .chat_reply import ChatReply, step_text
from .http_errors import HttpError
from .protocol import ChatRequest, EventsRequest, public, read
from .search_service import OrderedSearch, SearchService
from .watched_reply import DONE, JsonReply, OutgoingEvents, WatchedReply, data_line, read_body

_Ending = Callable[[Result], "list[bytes]"]
_Failure = Callable[[HttpError], "list[bytes]"]


class SearchEndpoints:
    """Endpoints over the searches of a service."""

    def __init__(self, service: SearchService, most_bytes: int) -> None:
        """``most_bytes`` is the size of the largest body."""
        self._service, self._most_bytes = service, most_bytes

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``. Raises HttpError."""
        wanted = read(ChatRequest, await read_body(request, self._most_bytes))
        wanted.check()
        reply = ChatReply(f"chatcmpl-{uuid.uuid4().hex}", wanted.model, int(time.time()))
        if wanted.stream:
            return self._chat_stream(wanted, reply)
        steps: list[str] = []
        order = OrderedSearch(reply.id, wanted, wanted.input, lambda event: steps.append(step_text(event)))
        self._service.check(order)

        async def work(send: Send) -> None:
            with self._service.queue.place() as turn:
                result = await self._service.solve(self._service.prepare(order), turn)
            await JsonReply(reply.whole(result, "".join(steps)))(request.scope, request.receive, send)

        return WatchedReply(work, self._service.metrics.left)

    def _chat_stream(self, wanted: ChatRequest, reply: ChatReply) -> Response:
        stream = OutgoingEvents()
        with_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        stream.put(data_line(reply.chunk({"role": "assistant"})))

        def handle(event: Event) -> None:
            if steps := step_text(event):
                stream.put(data_line(reply.chunk({"reasoning_content": steps})))

        def ending(result: Result) -> list[bytes]:
            return [*map(data_line, reply.last(result, with_usage=with_usage)), DONE]

        order = OrderedSearch(reply.id, wanted, wanted.input, handle)
        return self._streamed(order, stream, ending, lambda error: [data_line(error.to_json()), DONE])

    async def events(self, request: Request) -> Response:
        """``POST /v1/events``: the journal's events as they happen; the last one is ``end`` or ``error``.

        Raises HttpError.
        """
        wanted = read(EventsRequest, await read_body(request, self._most_bytes))
        stream = OutgoingEvents()

        def handle(event: Event) -> None:
            stream.put(data_line(public(event.type, event.data), event.type))

        order = OrderedSearch(f"search-{uuid.uuid4().hex}", wanted, wanted.input, handle)
        return self._streamed(order, stream, lambda _: [], lambda error: [data_line(error.to_json(), "error")])

    def _streamed(self, order: OrderedSearch, stream: OutgoingEvents, ending: _Ending, failure: _Failure) -> Response:
        """Run a search whose events go into a stream; ``ending`` or ``failure`` makes its last parts."""
        self._service.check(order)

        async def work(send: Send) -> None:
            with self._service.queue.place() as turn:
                search = self._service.prepare(order)
                solving = asyncio.ensure_future(self._service.solve(search, turn))
                try:
                    await stream.send(send, solving)
                finally:
                    await aio.cancel([solving])
            try:
                parts = ending(solving.result())
            except HttpError as error:
                parts = failure(error)
            await stream.close(send, *parts)

        return WatchedReply(work, self._service.metrics.left)
