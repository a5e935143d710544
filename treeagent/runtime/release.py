"""The end of several backends."""

from __future__ import annotations

from collections.abc import Iterable

from ..backend import Backend
from ..errors import TreeagentError
from ..plugin_boundary import PluginBoundary


async def close_all(backends: Iterable[Backend]) -> None:
    """Release what each of them holds, also after one of them has failed. Raises the first failure."""
    failures: list[TreeagentError] = []
    for backend in backends:
        try:
            with PluginBoundary("backend", backend.name):
                await backend.aclose()
        except TreeagentError as error:
            failures.append(error)
    if failures:
        raise failures[0]
