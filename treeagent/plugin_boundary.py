"""The boundary around a plug-in: an exception of its own becomes a PluginError that says whose it is and where."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

from .errors import PluginError, TreeagentError

TRACEBACK_VARIABLE = "TREEAGENT_TRACEBACK"
"""With this environment variable set, the traceback of a plug-in's exception is printed on standard error."""

_ENDS = (KeyboardInterrupt, GeneratorExit)
"""What ends the program from outside, beside a cancellation; no fault of the code that it passes through."""


class PluginBoundary:
    """A context in which a plug-in's code runs. It may be entered repeatedly, and several times at once.

    Every exception becomes a PluginError, except a TreeagentError, which has an address already, a cancellation,
    Ctrl-C, and the classes in ``passing``, which the plug-in's contract allows. RecursionError, MemoryError and
    SystemExit are the plug-in's like any other.
    """

    __slots__ = ("_inner", "_kind", "_name", "_passing", "_where")

    def __init__(
        self,
        kind: str,
        name: str,
        where: str = "",
        *,
        passing: Sequence[type[Exception]] = (),
        inner: Sequence[tuple[str, str, object]] = (),
    ) -> None:
        """``kind``, ``name`` and ``where`` are those of :class:`PluginError`.

        ``inner`` are the kinds, names and objects of other plug-ins that this one calls directly: an exception out of
        a method of theirs is theirs.
        """
        self._kind, self._name, self._where = kind, name, where
        self._passing: tuple[type[BaseException], ...] = (*_ENDS, TreeagentError, *passing)
        self._inner = inner

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Raises PluginError in place of an exception of the plug-in."""
        if error is None or isinstance(error, self._passing):
            return
        from asyncio import CancelledError  # noqa: PLC0415  # a sixth of the command line's start

        if isinstance(error, CancelledError):
            return
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exception(kind, error, at, file=sys.stderr)
        raise PluginError(*self._culprit(at), error, self._where) from error

    def _culprit(self, at: TracebackType | None) -> tuple[str, str]:
        """Kind and name of the innermost plug-in whose method was running."""
        culprit = (self._kind, self._name)
        for frame, _ in traceback.walk_tb(at):
            running = frame.f_locals.get("self")
            culprit = next(((kind, name) for kind, name, plugin in self._inner if plugin is running), culprit)
        return culprit


def at_input(input: str) -> str:
    """The ``where`` of an input: its text, shortened."""
    return f"the input {input if len(input) <= 80 else f'{input[:77]}...'!r}"
