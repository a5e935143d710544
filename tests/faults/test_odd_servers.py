"""Servers that speak HTTP oddly: each ends in a reply or in one BackendError, in time and without memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from server_replies import DECLARED, wanted

from treeagent import BackendError
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.reply import Reply

GOOD = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "4 + 5"}}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Talk = Callable[[socket.socket], None]
"""What a server does with a connection whose request it has read."""


@contextmanager
def served(talk: Talk) -> Iterator[str]:
    """The base URL of a server on this machine."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
                pass
            connection.recv(65536)
            talk(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    finally:
        server.close()


def sent(*parts: bytes) -> Talk:
    """Sends bytes and closes."""
    return lambda connection: connection.sendall(b"".join(parts))


def whole(body: bytes, *headers: bytes) -> Talk:
    """Sends a complete reply."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return sent(HEAD, lines, b"Content-Length: %d\r\n\r\n" % len(body), body)


def without_end(start: bytes, more: bytes) -> Talk:
    """Sends a start, and then the same over and over."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return talk


def trickling(connection: socket.socket) -> None:
    """A byte now and then, so that no single read takes long."""
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while not select.select([connection], [], [], 0.02)[0]:  # until the client closes
        connection.sendall(b" ")


def silent(connection: socket.socket) -> None:
    """Reads on, and never answers."""
    while connection.recv(65536):
        pass


def half_closed(connection: socket.socket) -> None:
    """Sends a whole reply without a length, and closes its side only."""
    connection.sendall(HEAD + b"Connection: close\r\n\r\n" + GOOD)
    connection.shutdown(socket.SHUT_WR)
    silent(connection)


def complete(url: str, **options: object) -> Reply:
    """The reply of a backend that tries twice and gives up after a second."""
    chosen = {**DECLARED, "attempts": 2, "patience": 1.0, "timeout": 0.5, **options}
    backend = OpenAIBackend("toy", base_url=url, **chosen)  # type: ignore[arg-type]  # options of any type

    async def run() -> Reply:
        try:
            return await backend.generate(wanted())
        finally:
            await backend.aclose()

    return asyncio.run(run())


READ = {
    "HTTP/1.0": sent(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", GOOD),
    "half closed": half_closed,
    "another content type": sent(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n", GOOD),
    "no content type": sent(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", GOOD),
    "no reason": sent(b"HTTP/1.1 200\r\nConnection: close\r\n\r\n", GOOD),
    "a byte order mark": whole(b"\xef\xbb\xbf" + GOOD),
    "chunked": sent(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(GOOD), GOOD, b"\r\n0\r\n\r\n"),
    "100 first": sent(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"Connection: close\r\n\r\n", GOOD),
}


@pytest.mark.parametrize("kind", READ)
def test_an_odd_form_of_a_good_reply_is_read(kind: str) -> None:
    """Where HTTP leaves no doubt about the text."""
    with served(READ[kind]) as url:
        assert complete(url).completions[0].text == "4 + 5"


def bomb(connection: socket.socket) -> None:
    """Few bytes that are 256 MiB."""
    whole(gzip.compress(bytes(256 << 20), 1), b"Content-Encoding: gzip")(connection)


SPACES = b" " * 65536
FAULTY = {
    "null": whole(b"null"),
    "empty": whole(b""),
    "a list": whole(b"[]"),
    "a word": whole(b'"ok"'),
    "a page": whole(b"<html><body>Please log in</body></html>"),
    "no UTF-8": whole(b'{"choices": "\xff\xfe"}'),
    "closed at once": sent(b""),
    "cut in its head": sent(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "cut in its body": sent(HEAD, b"Content-Length: 5000\r\n\r\n", GOOD),
    "a wrong length": sent(HEAD, b"Content-Length: 3\r\n\r\n", GOOD),
    "no length that is a number": sent(HEAD, b"Content-Length: many\r\n\r\n", GOOD),
    "broken chunks": sent(HEAD, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", GOOD),
    "no HTTP": sent(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a status that is none": sent(b"HTTP/1.1 9999 OK\r\nConnection: close\r\n\r\n", GOOD),
    "a huge header": without_end(HEAD, b"X-Padding: " + b"x" * 4000 + b"\r\n"),
    "a huge header line": without_end(HEAD + b"X-Padding: ", b"x" * 65536),
    "a stream without end": without_end(HEAD + b"Connection: close\r\n\r\n", b" " * 65536),
    "chunks without end": without_end(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + SPACES + b"\r\n"),
    "events without end": without_end(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"data: {}\n\n" * 1000
    ),
    "informational replies without end": without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a gzip bomb": bomb,
    "gzip in gzip": whole(gzip.compress(gzip.compress(GOOD)), b"Content-Encoding: gzip, gzip, gzip"),
    "gzip that is none": whole(GOOD, b"Content-Encoding: gzip"),
    "an unknown encoding": whole(b"\x00\x01", b"Content-Encoding: x-own"),
    "a redirection to itself": sent(b"HTTP/1.1 302 Found\r\nLocation: completions\r\nContent-Length: 0\r\n\r\n"),
    "a redirection to a file": sent(b"HTTP/1.1 307 X\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    "a redirection to nowhere": sent(b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n"),
    "no content": sent(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a trickle": trickling,
    "silence": silent,
    "an error that is null": sent(b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\nnull"),
    "an error without end": without_end(b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n", b"x" * 65536),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_reply_is_one_clear_error(kind: str) -> None:
    """It names the server, in less than 200 MiB and, where it never ends, in the user's time."""
    began, before = time.monotonic(), _peak()
    with served(FAULTY[kind]) as url, pytest.raises(BackendError) as caught:
        complete(url)
    said = str(caught.value)
    assert "127.0.0.1" in said
    assert len(said) < 2000
    assert "Traceback" not in said
    assert _peak() - before < 200 << 10
    assert time.monotonic() - began < 30


def _peak() -> int:
    """The most memory that this process has held, in KiB; Linux only, 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
