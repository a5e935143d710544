"""The connection to Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from .. import extras
from ..errors import ConfigError

_CONNECT = 5.0  # seconds until an address counts as one where nobody listens


def parse(workers: str) -> str | None:
    """The address of ``ray:ADDRESS``, None of ``ray``, which starts Ray here. Raises ConfigError."""
    kind, _, address = workers.partition(":")
    if kind != "ray" or (not address and ":" in workers):
        raise ConfigError(f"--workers: expected ray or ray:ADDRESS, such as ray:10.0.0.1:6379, not {workers!r}")
    return address or None


@contextmanager
def connection(address: str | None) -> Iterator[Any]:
    """The module ``ray``, joined to a cluster; without an address, to one on this machine. Left at the end.

    A program that is connected already stays so. Until the end all standard output of the process goes to standard
    error. Raises ConfigError where nobody listens, Ray does not start, or the program is connected to another cluster,
    and MissingExtraError.
    """
    extras.require("option --workers ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers otherwise
    import ray  # noqa: PLC0415  of an extra

    # A thread of Ray prints errors of the cluster, such as the death of a worker, to standard output, also without
    # log_to_driver, and what it holds back when the connection ends; that is no output of the command.
    with redirect_stdout(sys.stderr):
        joins = not ray.is_initialized()
        try:
            _join(ray, address)
            yield ray
        finally:
            if joins:
                ray.shutdown()


def _join(ray: Any, address: str | None) -> None:
    """Connect unless the program is connected. Raises ConfigError."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    joined = ray.is_initialized()
    try:
        if host and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
        if not joined:
            ray.init(address=address or "local", include_dashboard=None if address else False, log_to_driver=False,
                     logging_level="error")  # fmt: skip
    except Exception as error:
        known = (OSError, ValueError, OverflowError, RuntimeError, ray.exceptions.RayError)
        if type(error) is not Exception and not isinstance(error, known):
            raise  # the bare class alone is Ray's, for a node that is not up in time
        reason = " ".join(str(error).split())[:200]
        problem = f"no Ray cluster answers at {address}" if address else "Ray does not start on this machine"
        raise ConfigError(f"--workers: {problem}: {reason}") from error
    if joined and address not in (None, "auto", "local"):
        _require_joined(ray, str(address))


def _require_joined(ray: Any, address: str) -> None:
    """Raise ConfigError where the program is connected to another cluster than that of ``address``."""
    client = ray.util.client.ray.is_connected()
    joined = "an address of its own" if client else ray.get_runtime_context().gcs_address
    same = client if address.startswith("ray://") else not client and _place(ray, address) == _place(ray, joined)
    if not same:  # of two clients nothing is known: neither tells its address
        raise ConfigError(
            f"--workers: this process is connected to Ray at {joined} already, not at {address}. Call ray.shutdown() "
            "first, or use that connection by --workers ray"
        )


def _place(ray: Any, address: str) -> tuple[str, str]:
    """The number of a host, the same for all of this machine, and the port of an address."""
    host, _, port = address.rpartition(":")
    number = socket.gethostbyname(host.strip("[]"))
    return ("127.0.0.1" if number == ray.util.get_node_ip_address() else number), port
