"""Rounds as they end, for whoever wants to be told: the time line of a run's page is made of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from treeagent.backend import Round

from .metrics import Counters


class Recorder:
    """Keeps rounds until it is asked for them; dropped when nobody holds it any more."""

    def __init__(self) -> None:
        self.kept: deque[Round] = deque()

    def __call__(self) -> list[Round]:
        """Those that have ended since the last call. The models' thread may add to them meanwhile."""
        return [self.kept.popleft() for _ in range(len(self.kept))]


class Recorders:
    """All who are to be told."""

    def __init__(self) -> None:
        self._all: WeakSet[Recorder] = WeakSet()

    def add(self) -> Recorder:
        """Another one, told from now on."""
        recorder = Recorder()
        self._all.add(recorder)
        return recorder

    @contextmanager
    def round(self, counters: Counters) -> Iterator[None]:
        """Tell of the round that is made inside, unless it fails."""
        if not self._all:
            yield
            return
        before, began = counters.copy(), time.monotonic()
        yield
        made = counters.since(before).as_round(began, time.monotonic() - began)
        for recorder in list(self._all):
            recorder.kept.append(made)
