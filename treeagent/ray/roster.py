"""Which replica has which problems, and which problems are to blame where replicas die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

DEATHS = 2
"""Replicas that die with one problem alone, at the same place of its journal, before it is booked as failed."""


class ProblemKey(NamedTuple):
    """A problem of one repeat."""

    seed: int
    number: int


class Roster:
    """The replicas by number, ready or not, and the problems in flight on each.

    A replica that dies with several problems in flight charges none of them: they become suspects, and each runs alone
    until it has ended. A replica that dies with one problem charges that one, unless the problem came further since its
    last death, so that replicas which are ended from outside do not make a problem fail.
    """

    def __init__(self, replicas: int, at_once: int) -> None:
        """``at_once`` is the number of problems that a replica has at one time."""
        self._at_once = at_once
        self._problems: list[set[ProblemKey]] = [set() for _ in range(replicas)]
        self._ready: set[int] = set()
        self._lost: set[int] = set()
        self._suspects: dict[ProblemKey, int] = {}
        self._charges: dict[ProblemKey, tuple[int, int]] = {}
        self.deaths: Counter[int] = Counter()
        """Of each replica."""

    @property
    def ready(self) -> int:
        """The number of replicas that take problems."""
        return len(self._ready)

    @property
    def all_lost(self) -> bool:
        """Whether no replica is left."""
        return len(self._lost) == len(self._problems)

    def set_ready(self, replica: int) -> None:
        """A replica is loaded."""
        self._ready.add(replica)

    def replica_for(self, problem: ProblemKey) -> int | None:
        """The replica that has the fewest problems; for a suspect, one that has none. None while there is none.

        Suspects go where the replica died; other problems come there after them.
        """
        if problem in self._suspects:
            home = self._suspects[problem]
            kept = set(self._suspects.values()) - {home}
            free = [each for each in self._ready if not self._problems[each] and each not in kept]
            return home if home in free else min(free, default=None)
        kept = set(self._suspects.values())
        free = [each for each in self._ready - kept if self._has_room(each)]
        return min(free, key=lambda each: (len(self._problems[each]), each), default=None)

    def begin(self, problem: ProblemKey, replica: int) -> None:
        """A problem is handed to a replica."""
        self._problems[replica].add(problem)

    def end(self, problem: ProblemKey, replica: int) -> None:
        """A problem has ended on a replica."""
        self._problems[replica].discard(problem)
        self._suspects.pop(problem, None)

    def bury(self, replica: int, progress: Callable[[ProblemKey], int]) -> None:
        """A replica died: charge its problem, or suspect its problems. ``progress`` counts what a journal holds."""
        self.deaths[replica] += 1
        self._ready.discard(replica)
        problems, self._problems[replica] = self._problems[replica], set()
        for problem in problems:
            self._suspects.setdefault(problem, replica)
        if len(problems) == 1:
            (problem,) = problems
            count, before = self._charges.get(problem, (0, -1))
            now = progress(problem)
            self._charges[problem] = (count + 1 if now == before else 1, now)

    def lose(self, replica: int) -> None:
        """A replica cannot be started anew; another one takes its suspects."""
        self._lost.add(replica)
        left = min(set(range(len(self._problems))) - self._lost, default=None)
        for problem, home in list(self._suspects.items()):
            if home == replica and left is not None:
                self._suspects[problem] = left

    def is_guilty(self, problem: ProblemKey) -> bool:
        """Whether :data:`DEATHS` replicas died with this problem."""
        return self._charges.get(problem, (0, 0))[0] >= DEATHS

    def _has_room(self, replica: int) -> bool:
        problems = self._problems[replica]
        return len(problems) < self._at_once and not problems & self._suspects.keys()
