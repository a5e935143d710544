"""The figures of all backends of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..backend import Backend
from ..plugin_boundary import PluginBoundary


def meters(backend: Backend, judging: Backend, others: Mapping[str, Backend]) -> Callable[[], dict[str, Any]]:
    """The backend's meter; where the evaluator has another backend, its figures are under the key ``evaluator``.

    Those of further models are under ``models``, by name.

    It and its result raise PluginError.
    """
    with PluginBoundary("backend", backend.name):
        parts = [used.meter() for used in dict.fromkeys((backend, judging))]
        further = {name: used.meter() for name, used in others.items() if used not in (backend, judging)}

    def figures() -> dict[str, Any]:
        with PluginBoundary("backend", backend.name):
            first, *second = [part() for part in parts]
            own = {name: found for name, read in further.items() if (found := read())}
            more = {"evaluator": second[0] if second else None, "models": own}
            return {**first, **{name: found for name, found in more.items() if found}}

    return figures
