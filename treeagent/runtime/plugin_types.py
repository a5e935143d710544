"""The base class that a search, an evaluator or a backend must have, whether it is given by name or as an object."""

from __future__ import annotations

from typing import Any

from .. import registry
from ..backend import Backend
from ..errors import ConfigError
from ..evaluator import Evaluator
from ..search import Search

_BASES: dict[str, type] = {"search": Search, "evaluator": Evaluator, "backend": Backend}


def plugin_class(kind: str, name: str) -> Any:
    """The class of a name that the caller gives, or that was let through where a file gives it. Raises ConfigError."""
    cls = registry.load(kind, name, allow_code=True)
    if not (isinstance(cls, type) and issubclass(cls, _BASES[kind])):
        raise ConfigError(f"{name!r} is no {kind}: expected a class derived from treeagent.{_BASES[kind].__name__}")
    return cls


def plugin_object(kind: str, plugin: Any) -> Any:
    """The object that the caller gives in place of a name. Raises ConfigError for one of another kind."""
    if isinstance(plugin, _BASES[kind]):
        return plugin
    given = f"the class {plugin.__name__}; make an object of it" if isinstance(plugin, type) else f"{plugin!r:.60}"
    raise ConfigError(
        f"{kind}: expected a name or an object of a class derived from treeagent.{_BASES[kind].__name__}, got {given}"
    )
