"""The backend of an evaluator: the generator's, one beside it for another model, or one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..errors import ConfigError
from ..plugin_boundary import PluginBoundary
from . import factory


@dataclass(frozen=True, slots=True)
class JudgingBackend:
    """What an agent is told of its evaluator's backend."""

    backend: str | Backend | None
    """A registered name, ``module:Class`` or an object; None: one of the generator's kind."""
    model: str | Backend | None
    options: Mapping[str, Any]
    """Those of ``backend``, which has a name then."""

    @property
    def is_apart(self) -> bool:
        """Whether it shares nothing with the generator's backend, so that a journal describes it in full."""
        return self.backend is not None or isinstance(self.model, Backend)

    def open(self, generator: Backend, search: str, *, evaluates: bool) -> Backend:
        """The backend. Raises ConfigError, also for a ``search`` that uses no evaluator."""
        given = self.model if self.backend is None else self.backend
        if self.options and self.backend is None:
            raise ConfigError(
                f"the option evaluator_backend.{next(iter(self.options))} is given, but no backend for the evaluator; "
                "name one with --evaluator-backend (evaluator_backend= in Python)"
            )
        if given is None:
            return generator
        if not evaluates:
            what = "a model" if self.backend is None else "a backend"
            name = given if isinstance(given, str) else given.name
            raise ConfigError(f"the search {search!r} uses no evaluator, but {what} for one is given: {name}")
        if self.backend is not None:
            if isinstance(self.model, Backend):
                raise ConfigError("evaluator_model is a backend itself; leave evaluator_backend out")
            return factory.open_backend(self.backend, self.model, dict(self.options))
        if isinstance(given, Backend):
            return given
        with PluginBoundary("backend", generator.name, f"its model {given!r} for the evaluator"):
            return generator.with_model(given)
