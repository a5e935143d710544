"""Rounds as they end, for whoever wants to be told: the time line of a run's page is made of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import ref

from treeagent.backend import Round

from .metrics import Counters


class Listener:
    """Keeps rounds until it is asked for them; told nothing any more once nobody holds it."""

    def __init__(self) -> None:
        self.kept: deque[Round] = deque()

    def __call__(self) -> list[Round]:
        """Those that have ended since the last call. The models' thread may add to them meanwhile."""
        return [self.kept.popleft() for _ in range(len(self.kept))]


class RoundLog:
    """Tells all listeners, who come from any thread, of the rounds of one engine, which are made in another."""

    def __init__(self) -> None:
        self._listeners: tuple[ref[Listener], ...] = ()  # replaced and never changed, as two threads look at it
        self._lock = threading.Lock()

    def listen(self) -> Listener:
        """Another listener, told of rounds that begin from now on."""
        listener = Listener()
        with self._lock:
            self._listeners = (*(known for known in self._listeners if known() is not None), ref(listener))
        return listener

    @contextmanager
    def round(self, counters: Counters) -> Iterator[None]:
        """Tell of the round that is made inside, if it comes to a pass."""
        listeners = [listener for known in self._listeners if (listener := known()) is not None]
        if not listeners:
            yield
            return
        before, began = counters.copy(), time.monotonic()
        try:
            yield
        finally:
            if counters.rounds > before.rounds:
                made = counters.since(before).as_round(began, time.monotonic() - began)
                for listener in listeners:
                    listener.kept.append(made)
