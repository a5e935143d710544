"""From names and options to objects, and back: how an agent's parts are made and written down in a journal."""

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
from ..search import Search
from ..task import Task
from ..taskfile import loader
from .budget import Budget


def given(data: dict[str, Any]) -> dict[str, Any]:
    """An agent's arguments as a journal's first line has them."""
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


def _evaluator_model(told: str | dict[str, Any] | None) -> str | Backend | None:
    """The evaluator's model, or its backend opened again."""
    return open_backend(told["name"], told["model"], told["options"]) if isinstance(told, dict) else told


def split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
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


def make(kind: str, given: Any, options: dict[str, Any]) -> Any:
    """A search or an evaluator from its name and options, or as it is given. Raises ConfigError."""
    if isinstance(given, str):
        return build(kind, given, _class(kind, given), options)
    if options:
        raise ConfigError(
            f"the {kind} is given as an object, so its options belong to the object: {', '.join(options)}"
        )
    return given


def open_backend(given: str | Backend, model: str | None, options: dict[str, Any]) -> Backend:
    """A backend from its name, or as it is given. Raises ConfigError."""
    if isinstance(given, Backend):
        if model is not None or options:
            raise ConfigError("the backend is given as an object, so model and backend options belong to the object")
        return given
    opened: Backend = _class("backend", given).open(model, options)
    return opened


def _class(kind: str, name: str) -> Any:
    found, base = registry.load(kind, name), {"search": Search, "evaluator": Evaluator, "backend": Backend}[kind]
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{name!r} is no {kind}: a class derived from treeagent.{base.__name__} is wanted")
    return found


def name(given: Any) -> str:
    """What loads it again."""
    return given if isinstance(given, str) else f"{type(given).__module__}:{type(given).__qualname__}"


def fields(given: Any) -> dict[str, Any]:
    """The options of a search or an evaluator."""
    return {each.name: getattr(given, each.name) for each in dataclasses.fields(given)} if is_dataclass(given) else {}


def task_reference(given: str | Path | Task, task: Task) -> str:
    """What a journal names the task by: the registered name or class that was given, else what loads it again."""
    by_name = isinstance(given, str) and not loader.is_path(given)
    return str(given) if by_name else task.reference


def check_offers(backend: Backend, needs: frozenset[str], who: str) -> None:
    """Raise CapabilityError for what is needed and not offered."""
    if missing := needs - backend.capabilities:
        raise CapabilityError(
            f"{who} needs {', '.join(sorted(missing))}, which the backend {backend.name!r} does not offer (it offers: "
            f"{', '.join(sorted(backend.capabilities))})"
        )


def meters(backend: Backend, judging: Backend) -> Callable[[], dict[str, Any]]:
    """The backend's meter; figures of an evaluator's backend of its own stand under ``evaluator``."""
    first = backend.meter()
    if judging is backend:
        return first
    second = judging.meter()
    return lambda: {**first(), **({"evaluator": figures} if (figures := second()) else {})}
