"""Records of rounds for listeners, such as the time line of a run's page."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import ref

from treeagent.process_fork import ForkSafeLock
from treeagent.reply import Round

from .metrics import Counters


class Listener:
    """Buffers rounds until they are read; the log holds it by a weak reference."""

    def __init__(self) -> None:
        self._rounds: deque[Round] = deque()

    def add(self, ended: Sequence[Round]) -> None:
        """Buffer rounds; called in the models' thread."""
        self._rounds.extend(ended)

    def __call__(self) -> list[Round]:
        """The rounds that have ended since the last call."""
        return [self._rounds.popleft() for _ in range(len(self._rounds))]


class RoundLog:
    """Passes the rounds of one engine on to listeners of any thread."""

    def __init__(self) -> None:
        self._listeners: tuple[ref[Listener], ...] = ()  # replaced and never changed, as two threads read it
        self._lock = ForkSafeLock()

    def listen(self) -> Listener:
        """A new listener for the rounds that begin from now on."""
        listener = Listener()
        with self._lock:
            self._listeners = (*(held for held in self._listeners if held() is not None), ref(listener))
        return listener

    @contextmanager
    def round(self, counters: Counters) -> Iterator[None]:
        """Record the round that runs inside, if it makes a pass."""
        listeners = [listener for held in self._listeners if (listener := held()) is not None]
        if not listeners:
            yield
            return
        before, began = counters.copy(), time.monotonic()
        try:
            yield
        finally:
            if counters.rounds > before.rounds:
                ended = counters.since(before).as_rounds(began, time.monotonic() - began)
                for listener in listeners:
                    listener.add(ended)
