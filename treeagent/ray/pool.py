"""Replicas on Ray: actors that solve problems one by one, and are started anew when one dies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ConfigError, JournalError, ModelError
from ..evaluation.outcomes import Outcome
from ..evaluation.run import journal_name
from ..runtime import journal
from ..runtime.agent import Agent
from ..taskfile.dataset import Data, DataRow
from .replica import Build, Replica
from .roster import DEATHS, ProblemKey, Roster

_LOADS = 2
"""Attempts to start a replica anew that may die before it counts as lost."""


class Pool:
    """Some replicas, each in an actor, for one event loop at a time."""

    def __init__(
        self, ray: Any, build: Build, replicas: int, *, cpus: float, gpus: Sequence[float | None], at_once: int
    ) -> None:
        """``gpus`` are those that the backends of a replica need, as :attr:`treeagent.Backend.gpus`.

        ``at_once`` is the number of problems that a replica has at one time. Raises ConfigError.
        """
        self._ray = ray
        total = ray.cluster_resources()
        reserved = reserved_gpus(gpus, replicas, total.get("GPU", 0))
        self._build = partial(_build_seeing, reserved, build)
        options = {"num_cpus": cpus, "num_gpus": reserved, "max_restarts": 0, "max_concurrency": at_once + 1}
        self._remote = ray.remote(**options)(Replica)
        free = ray.available_resources()
        self.shortage = ""
        """What replicas have to wait for, because others on the cluster use it; empty where all can start."""
        for name, each in (("CPU", cpus), ("GPU", reserved)):
            if each * replicas > total.get(name, 0):
                raise ConfigError(f"--replicas {replicas} need {each * replicas:g} {name}s, but the cluster has "
                                  f"{total.get(name, 0):g}. Take fewer replicas, or add machines")  # fmt: skip
            if each * replicas > free.get(name, 0):
                self.shortage = f"{each * replicas:g} {name}s, of which {free.get(name, 0):g} are free"
        self._actors: list[Any] = [self._remote.remote(self._build) for _ in range(replicas)]
        self._roster = Roster(replicas, at_once)
        self._waiting: list[asyncio.Future[None]] = []
        self._reason = ""

    def state(self) -> str:
        """The replicas in words, for the progress."""
        died = self._roster.deaths.total()
        return f"{self._roster.ready} of {len(self._actors)} replicas" + (f", {died} died" if died else "")

    def load(self, on_loaded: Callable[[], object] = bool) -> None:
        """Load all replicas, and call a function after each. Raises ModelError where one cannot load."""
        loads = [actor.load.remote() for actor in self._actors]
        for number, load in enumerate(loads):
            try:
                reason = self._ray.get(load)
            except self._ray.exceptions.RayError as error:
                reason = _line(error)
            if reason is not None:
                raise ModelError(f"replica {number} cannot load: {reason}")
            self._roster.set_ready(number)
            on_loaded()

    async def solve(self, row: DataRow, journals: Path, seed: int) -> Outcome:
        """The outcome of a problem, a failure where it ends replicas. ``journals`` is an absolute folder.

        Raises ModelError where no replica is left.
        """
        problem, exceptions = ProblemKey(seed, row.number), self._ray.exceptions
        reason, place = "", 0
        while not self._roster.is_guilty(problem):
            place = await self._replica_for(problem)
            actor = self._actors[place]
            self._roster.begin(problem, place)
            try:
                outcome: Outcome = await _result(actor.solve.remote(row.number, journals, seed))
            except exceptions.RayTaskError as error:  # of our code, for a failure of the search is an outcome
                outcome = Outcome(row.number, row.input, error=f"replica {place}: {_line(error)}")
            except exceptions.RayError as error:
                reason = _line(error)
                if self._actors[place] is actor:
                    await self._replace(place, journals)
                continue
            except asyncio.CancelledError:
                self._end(problem, place)
                raise
            self._end(problem, place)
            return outcome
        self._end(problem, place)
        return Outcome(row.number, row.input, error=f"{DEATHS} replicas died with this problem: {reason}")

    async def _replica_for(self, problem: ProblemKey) -> int:
        """The number of a replica that takes the problem, once there is one. Raises ModelError."""
        while (place := self._roster.replica_for(problem)) is None:
            if self._roster.all_lost:
                raise ModelError(f"no replica is left: {self._reason}")
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        return place

    def _end(self, problem: ProblemKey, place: int) -> None:
        self._roster.end(problem, place)
        self._wake()

    def _wake(self) -> None:
        """Let all problems that wait for a replica look again, in their order."""
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    async def _replace(self, place: int, journals: Path) -> None:
        """Start a dead replica anew, once for all problems that it had; it takes problems when it is loaded."""
        self._roster.bury(place, partial(_progress, journals))
        reason: str | None = None
        for _ in range(_LOADS):
            self._ray.kill(self._actors[place])  # one that only cannot be reached must let the journals go
            self._actors[place] = actor = self._remote.remote(self._build)
            try:
                reason = await _result(actor.load.remote())
            except self._ray.exceptions.RayError as error:
                reason = _line(error)
                continue
            break
        if reason is None:
            self._roster.set_ready(place)
        else:
            self._reason = f"replica {place} cannot load again: {reason}"
            self._roster.lose(place)
        self._wake()

    def close(self) -> None:
        """End all replicas; the journals of open problems stay."""
        for actor in self._actors:
            self._ray.kill(actor)


def reserved_gpus(needs: Sequence[float | None], replicas: int, there: float) -> float:
    """GPUs of each replica: as many as one of its backends needs; one for None where there is one for each replica."""
    return max((float(there >= replicas) if need is None else need for need in needs), default=0.0)


def _build_seeing(gpus: float, build: Build) -> tuple[Agent, Data]:
    """What ``build`` makes; a replica that has reserved no GPU sees none, for those that it would see are others'."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return build()


async def _result(reference: Any) -> Any:
    """What a call of an actor returns or raises; a cancelled wait leaves the call alone."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def settle(done: Future[Any]) -> None:
        if result.cancelled():
            return
        if (error := done.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(done.result())

    def notify(done: Future[Any]) -> None:  # in a thread of Ray
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(settle, done)

    reference.future().add_done_callback(notify)
    return await result


def _progress(journals: Path, problem: ProblemKey) -> int:
    """The number of answers in the journal of a problem."""
    path = journals / journal_name(problem.number)
    try:
        return sum(event.type in _ANSWERS for event in journal.read(path))
    except JournalError:  # not begun, or torn
        return 0


_ANSWERS = ("completion", "scores", "refused", "observed")


def _line(error: Exception) -> str:
    """One line of an error of Ray, whose message has several: the cause's where our code failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {_line(cause)}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if "ray::" in lines[0] else 0].strip()  # a traceback ends with its error
