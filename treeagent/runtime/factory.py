"""Makes the parts of an agent from names and options, and describes them for a journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..backend import Backend
from ..errors import CapabilityError, ConfigError
from ..evaluator import Evaluator
from ..options import build
from ..plugin_boundary import PluginBoundary
from ..search import Search
from ..task import Task
from ..taskfile import loader
from .budget import Budget


def agent_arguments(data: dict[str, Any]) -> dict[str, Any]:
    """An agent's arguments from the first line of a journal. Raises KeyError, TypeError or AttributeError."""
    settings = data["settings"]
    backend, evaluator = settings["backend"], settings["evaluator"] or {"name": "value"}
    options = {key: value for key, value in settings["search"].items() if key != "name"}
    options |= {f"evaluator.{key}": value for key, value in evaluator.items() if key != "name"}
    options |= {f"backend.{key}": value for key, value in backend["options"].items()}
    return {
        "backend": backend["name"],
        "model": backend["model"],
        "evaluator": evaluator["name"],
        "evaluator_model": _evaluator_model(settings.get("evaluator_model")),
        "options": options,
        "variables": settings["variables"],
        "seed": data["seed"],
        "budget": Budget(**data["budget"]),
        "legality": settings["legality"],
    }


def _evaluator_model(recorded: str | dict[str, Any] | None) -> str | Backend | None:
    """The evaluator's model, or its backend opened again."""
    if isinstance(recorded, dict):
        return open_backend(recorded["name"], recorded["model"], recorded["options"])
    return recorded


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Options of the search, of the evaluator and of the backend, by their prefixes. Raises ConfigError."""
    parts: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    for key, value in options.items():
        prefix, _, rest = key.partition(".")
        if not rest:
            parts[0][key] = value
        elif prefix in ("evaluator", "backend"):
            parts[1 if prefix == "evaluator" else 2][rest] = value
        else:
            raise ConfigError(f"option {key!r}: the part before the dot must be 'evaluator' or 'backend'")
    return parts


def open_plugin(kind: str, plugin: Any, options: dict[str, Any]) -> Any:
    """A search or an evaluator from its name and options; an object is returned as it is. Raises ConfigError."""
    if isinstance(plugin, str):
        cls = _class(kind, plugin)
        with PluginBoundary(kind, plugin, "its construction"):
            return build(kind, plugin, cls, options)
    if options:
        raise ConfigError(
            f"the {kind} is given as an object, so its options belong to the object: {', '.join(options)}"
        )
    return plugin


def open_backend(backend: str | Backend, model: str | None, options: dict[str, Any]) -> Backend:
    """A backend from its name; an object is returned as it is. Raises ConfigError."""
    if isinstance(backend, Backend):
        if model is not None or options:
            raise ConfigError("the backend is given as an object, so model and backend options belong to the object")
        return _named(backend, type(backend).__qualname__)
    cls = _class("backend", backend)
    with PluginBoundary("backend", backend, "its construction"):
        opened: Backend = cls.open(model, options)
        if not isinstance(opened, Backend):
            raise TypeError(f"open returned {type(opened).__name__}, expected a Backend")
    return _named(opened, backend)


def _named(backend: Backend, called: str) -> Backend:
    """The backend itself. Raises PluginError for one without a name."""
    with PluginBoundary("backend", called, "its construction"):
        if not isinstance(getattr(backend, "name", None), str):
            raise TypeError("it has no name; set the class attribute 'name'")
    return backend


def _class(kind: str, name: str) -> Any:
    cls, base = registry.load(kind, name), {"search": Search, "evaluator": Evaluator, "backend": Backend}[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{name!r} is no {kind}: expected a class derived from treeagent.{base.__name__}")
    return cls


def reference(plugin: Any) -> str:
    """The name or ``module:Class`` that loads a search or an evaluator again."""
    return plugin if isinstance(plugin, str) else f"{type(plugin).__module__}:{type(plugin).__qualname__}"


def option_values(plugin: Any) -> dict[str, Any]:
    """The options of a search or an evaluator."""
    if not is_dataclass(plugin):
        return {}
    return {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin)}


def task_settings(argument: str | Path | Task, task: Task) -> dict[str, Any]:
    """What loads a task again: the registered name or class that the agent got, else the task's own reference.

    With its version and its variables. Raises PluginError.
    """
    by_name = isinstance(argument, str) and not loader.is_path(argument)
    with PluginBoundary("task", type(task).__qualname__):
        reference = str(argument) if by_name else task.reference
        if not isinstance(task.name, str):
            raise TypeError("its name is no text; set the class attribute 'name'")
        return {"task": reference, "task_version": task.version, "variables": dict(task.variables)}


def description(backend: Backend) -> dict[str, Any]:
    """What opens a backend again. Raises PluginError."""
    with PluginBoundary("backend", backend.name):
        return backend.describe()


def check_capabilities(backend: Backend, needs: frozenset[str], who: str) -> None:
    """Raise CapabilityError when the backend lacks a capability that ``who`` needs."""
    with PluginBoundary("backend", backend.name):
        offered = backend.capabilities
    if missing := needs - offered:
        raise CapabilityError(
            f"{who} needs {', '.join(sorted(missing))}, which the backend {backend.name!r} does not offer (it offers: "
            f"{', '.join(sorted(offered))})"
        )


def meters(backend: Backend, judging: Backend) -> Callable[[], dict[str, Any]]:
    """The backend's meter; where the evaluator has another backend, its figures are under the key ``evaluator``.

    It and its result raise PluginError.
    """
    with PluginBoundary("backend", backend.name):
        parts = [used.meter() for used in dict.fromkeys((backend, judging))]

    def figures() -> dict[str, Any]:
        with PluginBoundary("backend", backend.name):
            first, *second = [part() for part in parts]
            return {**first, **({"evaluator": second[0]} if second and second[0] else {})}

    return figures
