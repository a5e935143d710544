"""Replicas on Ray: actors that solve problems one by one, and are started anew when one dies."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import extras
from ..errors import ConfigError, ModelError
from ..evaluation.outcomes import Outcome
from ..taskfile.dataset import DataRow
from .replica import Build, Replica

DEATHS = 2
"""Replicas that may die with a problem in flight before it is booked as failed."""
_CONNECT = 5.0  # seconds until an address counts as one where nobody listens


def parse(workers: str) -> str | None:
    """The address of ``ray:ADDRESS``, None of ``ray``, which starts Ray here. Raises ConfigError."""
    kind, _, address = workers.partition(":")
    if kind != "ray" or (not address and ":" in workers):
        raise ConfigError(f"--workers: expected ray or ray:ADDRESS, such as ray:10.0.0.1:6379, not {workers!r}")
    return address or None


def connect(address: str | None) -> Any:
    """The module ``ray``, joined to a cluster; without an address, to one on this machine.

    Raises ConfigError where nobody listens, and MissingExtraError.
    """
    extras.require("option --workers ray", "ray")
    import ray  # noqa: PLC0415  of an extra

    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
        if ray.is_initialized():
            return ray
        ray.init(address=address or "local", include_dashboard=None if address else False, log_to_driver=False,
                 logging_level="error")  # fmt: skip
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--workers: no Ray cluster answers at {address or 'this machine'}: {reason}") from error
    return ray


class Pool:
    """Some replicas, each in an actor. A problem goes to the replica that has the fewest."""

    def __init__(self, ray: Any, build: Build, replicas: int, *, cpus: float, gpus: float, at_once: int) -> None:
        """``at_once`` is the number of problems that a replica has at one time. Raises ConfigError."""
        self._ray, self._build = ray, build
        self._remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=at_once + 1)(Replica)
        total = ray.cluster_resources()
        for name, each in (("CPU", cpus), ("GPU", gpus)):
            if each * replicas > total.get(name, 0):
                raise ConfigError(f"--replicas {replicas} need {each * replicas:g} {name}s, but the cluster has "
                                  f"{total.get(name, 0):g}. Take fewer replicas, or add machines")  # fmt: skip
        self._actors: list[Any] = [self._remote.remote(build) for _ in range(replicas)]
        self._in_flight = Counter(dict.fromkeys(range(replicas), 0))
        self.deaths: Counter[tuple[int, int]] = Counter()
        """Of replicas, by the seed and the number of the problem that was in flight."""

    def load(self) -> None:
        """Load all replicas. Raises ModelError where one cannot load."""
        for number, actor in enumerate(self._actors):
            try:
                reason = self._ray.get(actor.load.remote())
            except self._ray.exceptions.RayError as error:
                reason = _line(error)
            if reason is not None:
                raise ModelError(f"replica {number} cannot load: {reason}")

    async def solve(self, row: DataRow, journals: Path, seed: int) -> Outcome:
        """The outcome of a problem; a failure where :data:`DEATHS` replicas died with it. ``journals`` is absolute.

        Raises ModelError.
        """
        reason = ""
        while self.deaths[seed, row.number] < DEATHS:
            place = min(self._in_flight, key=lambda each: self._in_flight[each])
            actor = self._actors[place]
            self._in_flight[place] += 1
            try:
                outcome: Outcome = await actor.solve.remote(row.number, journals, seed)
            except self._ray.exceptions.RayActorError as error:
                self.deaths[seed, row.number] += 1
                reason = _line(error)
                await self._replace(place, actor)
            except self._ray.exceptions.RayError as error:
                return Outcome(row.number, row.input, error=f"replica {place}: {_line(error)}")
            else:
                return outcome
            finally:
                self._in_flight[place] -= 1
        return Outcome(row.number, row.input, error=f"{DEATHS} replicas died with this problem: {reason}")

    async def _replace(self, place: int, dead: Any) -> None:
        """Start a dead replica anew, once for all problems that it had; its first call waits for it to load."""
        if self._actors[place] is not dead:
            return
        self._actors[place] = actor = self._remote.remote(self._build)
        with suppress(self._ray.exceptions.RayActorError):  # the next call counts that death
            reason = await actor.load.remote()
            if reason is not None:
                raise ModelError(f"replica {place} cannot load again: {reason}")

    def close(self) -> None:
        """End all replicas; the journals of open problems stay."""
        for actor in self._actors:
            self._ray.kill(actor)


def _line(error: Exception) -> str:
    """The first line of a message of Ray, which has several."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
