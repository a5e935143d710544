"""What a forked process does not take over from its parent: locks that a thread held, work that a thread had begun.

A forked process has the memory of its parent and none of its threads but the one that forked. A lock that another
thread held is held there for ever, and what another thread had begun never ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class ForkSafeLock:
    """A lock that is free in a forked process."""

    def __init__(self, *, reentrant: bool = False) -> None:
        """``reentrant``: the thread that holds it may take it again."""
        self._make: Callable[[], threading.Lock] = threading.RLock if reentrant else threading.Lock  # type: ignore[assignment]
        self._lock = self._make()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        """Take it."""
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self._lock.release()

    def renew(self) -> None:
        """Become free, whoever holds it."""
        self._lock = self._make()


_LOCKS: WeakSet[ForkSafeLock] = WeakSet()
_FUNCTIONS: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def call_in_child(owner: object, function: Callable[[Any], None]) -> None:
    """Call a function with ``owner`` in each forked process before anything else, as long as ``owner`` lives there."""
    _FUNCTIONS[owner] = function


def _begin_child() -> None:
    for lock in list(_LOCKS):
        lock.renew()
    for owner, function in list(_FUNCTIONS.items()):
        function(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
