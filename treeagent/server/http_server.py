"""Listens on a socket, and ends in an orderly way on the first stop signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from ..errors import ConfigError
from ..stop_signals import STOP_SIGNALS

_LAST_SECONDS = 10
"""How long requests may take to end after the stop signal."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises ConfigError."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # With its protocol named asyncio sends small parts at once; else each reply waits 40 ms for an acknowledgement.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address[:2])
            listening.listen(512)
        except BaseException:
            listening.close()
            raise
        return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; --port 0 takes a free port") from error


def address(listening: socket.socket) -> str:
    """The base of the server's addresses."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def own_names(host: str) -> Sequence[str]:
    """What the header ``Host`` may have on a server that only this machine reaches."""
    return ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]


class HttpServer(uvicorn.Server):
    """A server whose end is decided by this program, not by signal handlers of the library's own."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
                timeout_keep_alive=30, timeout_graceful_shutdown=_LAST_SECONDS,
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to :mod:`treeagent.stop_signals`."""
        yield

    def stop(self) -> None:
        """Take no more requests, and end when those that run have ended."""
        self.should_exit = True


async def serve(app: ASGIApp, listening: socket.socket, close: Callable[[], None]) -> None:
    """Serve until the first stop signal, which calls ``close`` to end what runs."""
    loop, server = asyncio.get_running_loop(), HttpServer(app)

    def stop() -> None:
        loop.call_soon_threadsafe(close)
        loop.call_soon_threadsafe(server.stop)

    with STOP_SIGNALS.handled(stop):
        await server.serve(sockets=[listening])
