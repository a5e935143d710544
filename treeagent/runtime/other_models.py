"""The further models of a search that chooses among several: each has a name, and a backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..errors import ConfigError, did_you_mean
from ..plugin_boundary import PluginBoundary
from ..search import MAIN, Search
from . import factory

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class OtherModels:
    """What an agent is told of the models beside the generator's own."""

    backends: Mapping[str, str | Backend]
    """By the model's name a registered backend, ``module:Class`` or an object; without one it is of the generator's
    kind."""
    models: Mapping[str, str]
    """By name the model of that backend, as its ``model`` argument."""
    options: Mapping[str, Any]
    """Options of the backends, as ``NAME.OPTION``."""

    def open(self, generator: Backend, search: Search, called: str) -> dict[str, Backend]:
        """The backends by name. Raises ConfigError, also for a ``search`` (as it is ``called``) that asks one model."""
        names = list(dict.fromkeys((*self.backends, *self.models)))
        if names and not search.mixes_models:
            raise ConfigError(f"the search {called!r} asks one model, but others are given: {', '.join(names)}")
        for name in names:
            if not _NAME.fullmatch(name) or name == MAIN:
                raise ConfigError(
                    f"the name of a further model has letters, digits, '-' and '_', and is not {MAIN!r}: got {name!r}"
                )
        for key in self.options:
            name, _, option = key.partition(".")
            if name not in self.backends or not option:
                raise ConfigError(
                    f"the option backend_of.{key} is of no backend: expected backend_of.NAME.OPTION with a NAME of "
                    f"--backend-of (backend_of= in Python).{did_you_mean(name, self.backends)}"
                )
        return {name: self._open(name, generator) for name in names}

    def _open(self, name: str, generator: Backend) -> Backend:
        model, options = self.models.get(name), self._options(name)
        if name in self.backends:
            return factory.open_backend(self.backends[name], model, options)
        with PluginBoundary("backend", generator.name, f"its model {model!r}"):
            return generator.with_model(self.models[name])

    def _options(self, name: str) -> dict[str, Any]:
        return {key.partition(".")[2]: value for key, value in self.options.items() if key.startswith(f"{name}.")}
