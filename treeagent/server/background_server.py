"""A server in a thread of its own, for tests, measurements and notebooks."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from starlette.types import ASGIApp

from .http_server import HttpServer, address, listen
from .search_service import SearchService


class BackgroundServer:
    """Serves on a free port of this machine while its context is open."""

    def __init__(self, app: ASGIApp, service: SearchService) -> None:
        self._server, self._service = HttpServer(app), service
        self._socket = listen("127.0.0.1", 0)
        self.url = address(self._socket)
        """Base of the server's addresses."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="treeagent serve")

    def __enter__(self) -> BackgroundServer:
        """Begin to serve; connections are accepted from now on."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End as on a stop signal, and wait for it."""
        self._loop.call_soon_threadsafe(self._service.close)
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()
        self._socket.close()

    @property
    def tasks(self) -> int:
        """Tasks of the server's event loop that have not ended."""
        return len(asyncio.all_tasks(self._loop))

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
