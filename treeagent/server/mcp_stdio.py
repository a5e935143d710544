"""An MCP server on the standard input and output of this process."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import mcp.server.stdio

from ..runtime.budget import Budget
from ..stop_signals import STOP_SIGNALS
from .search_queue import SearchQueue
from .search_service import SearchService
from .search_tools import SearchTools
from .served_models import ServedModels

_WAITING = 1 << 20
"""Searches that may wait for their turn: one client decides itself how much it asks for."""
_LAST_SECONDS = 10.0
"""How long calls may take to end after a stop signal."""


async def serve_searches(models: ServedModels, budget: Budget, at_once: int) -> None:
    """Load the backends and serve until standard input ends, or until the first stop signal.

    ``at_once`` searches run at a time. Raises BackendError where a backend cannot be loaded.
    """
    service = SearchService(models, budget, SearchQueue(at_once, _WAITING), 0)
    with _wire() as (lines, output):
        await service.load()
        try:
            await _serve(SearchTools(service), lines, output)
        finally:
            await service.aclose()


async def _serve(tools: SearchTools, lines: InputLines, output: OutputLines) -> None:
    loop, server = asyncio.get_running_loop(), tools.server()
    ending: list[asyncio.Task[None]] = []

    async def end() -> None:
        tools.close()
        await tools.ended(_LAST_SECONDS)
        lines.end()

    def stop() -> None:
        loop.call_soon_threadsafe(lambda: ending.append(asyncio.ensure_future(end())))

    streams: Any = (lines, output)  # the library reads lines and writes them, and asks for nothing else
    with STOP_SIGNALS.handled(stop):
        async with mcp.server.stdio.stdio_server(*streams) as (received, sent):
            await server.run(received, sent, server.create_initialization_options())
    for task in ending:
        await task


@contextmanager
def _wire() -> Iterator[tuple[InputLines, OutputLines]]:
    """Standard input and output for the protocol alone: what else is printed goes to standard error."""
    sys.stdout.flush()
    received, sent = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield InputLines(received), OutputLines(sent)
    finally:
        sys.stdout.flush()
        os.dup2(sent, 1)
        os.close(sent)  # the other one may be read from still, by a thread that nobody can stop


class InputLines:
    """The lines of a descriptor, read by a thread that the end of the process does not wait for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._loop = descriptor, asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        threading.Thread(target=self._read, name="treeagent standard input", daemon=True).start()

    def __aiter__(self) -> InputLines:
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if line is None:
            raise StopAsyncIteration
        return line

    def end(self) -> None:
        """Read no more."""
        self._lines.put_nowait(None)

    def _read(self) -> None:
        rest = b""
        with suppress(OSError, RuntimeError):  # the descriptor or the loop is closed
            while data := os.read(self._descriptor, 1 << 16):
                *whole, last = data.split(b"\n")
                for line in whole:
                    text = (rest + line).decode(errors="replace")
                    rest = b""
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, text)
                rest += last
            self._loop.call_soon_threadsafe(self.end)


class OutputLines:
    """Writes to a descriptor; what a client that has left would get is lost."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write a line."""
        await asyncio.to_thread(self._write, text.encode(errors="replace"))

    async def flush(self) -> None:
        """Everything is written already."""

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]
