"""Standard output whose failure is said, and standard error whose loss loses nothing."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import TreeagentError


class OutputError(TreeagentError):
    """Standard output cannot be written."""


class StandardOutput(io.TextIOWrapper):
    """Raises OutputError where it cannot be written; what is written after that is lost in silence."""

    def write(self, text: str) -> int:
        """Write a text. Raises OutputError."""
        try:
            return super().write(text)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        """Write what is buffered. Raises OutputError."""
        try:
            super().flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        _discard(self.fileno())
        return OutputError(f"cannot write standard output: {error.strerror}; the result is incomplete there")


class StandardError(io.TextIOWrapper):
    """Messages that cannot be written are lost in silence."""

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError:
            _discard(self.fileno())
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            super().flush()
        except OSError:
            _discard(self.fileno())


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Put such streams in the place of the process's own.

    Where one was closed before the start, its descriptor is taken, so that no file opened later gets it and the output.
    A character that the terminal lacks is replaced.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:  # every write to this one fails, which is said
            output = StandardOutput(_open_null(os.O_RDONLY), errors="replace")
            stack.enter_context(contextlib.redirect_stdout(output))
        elif type(sys.stdout) is io.TextIOWrapper:
            stack.enter_context(contextlib.redirect_stdout(_guarded(sys.stdout, StandardOutput)))
        if sys.stderr is None:
            errors = StandardError(_open_null(os.O_WRONLY), errors="replace")
            stack.enter_context(contextlib.redirect_stderr(errors))
        elif type(sys.stderr) is io.TextIOWrapper:
            stack.enter_context(contextlib.redirect_stderr(_guarded(sys.stderr, StandardError)))
        yield


def _guarded(stream: io.TextIOWrapper, cls: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """A stream of a class to the same descriptor."""
    stream.flush()
    raw, through = io.FileIO(stream.fileno(), "w", closefd=False), stream.write_through
    buffer = raw if through else io.BufferedWriter(raw)
    return cls(buffer, stream.encoding, "replace", line_buffering=stream.line_buffering, write_through=through)


def _open_null(flags: int) -> BinaryIO:
    """The null device at the lowest free descriptor."""
    return io.BufferedWriter(io.FileIO(os.open(os.devnull, flags), "w"))


def _discard(descriptor: int) -> None:
    """Let a descriptor lead to the null device, so that what is still buffered causes no second failure."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
