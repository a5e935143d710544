"""Makes the parts of an agent from names and options, and describes them for a journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from .. import trust
from ..backend import Backend
from ..errors import CapabilityError, ConfigError, did_you_mean
from ..options import build
from ..plugin_boundary import PluginBoundary
from ..task import Task
from ..taskfile import loader
from .budget import Budget
from .fallback_backend import FallbackBackend
from .plugin_types import plugin_class, plugin_object
from .recorded_run import BackendSettings, NamedSettings, RecordedRun, RunSettings

DEFAULT_BACKEND = "seed"
"""The backend where the user names none; its :attr:`Backend.fallback` runs the models that it cannot run."""


def agent_arguments(
    path: Path, run: RecordedRun, trusted: Mapping[str, Any], *, allow_code: bool, opens_backend: bool = True
) -> dict[str, Any]:
    """An agent's arguments from a journal; ``trusted`` are the options that the user gives again.

    Names of code and addresses that the user has not allowed are refused (:mod:`treeagent.trust`) before anything is
    imported or opened. Without ``opens_backend`` the caller brings a backend. Raises ConfigError.
    """
    source, settings = f"the journal {path}", run.settings
    evaluator = settings.evaluator or NamedSettings(name="value")
    judging = settings.evaluator_model
    names = [("task", settings.task), ("search", settings.search.name), ("evaluator", evaluator.name)]
    names += [("backend", settings.backend.name)] if opens_backend else []
    names += [("backend", judging.name)] if isinstance(judging, BackendSettings) else []
    names += [("backend", other.name) for other in settings.models.values()]
    for kind, name in names:
        if kind != "task" or not loader.is_path(name):
            trust.check_code(kind, name, allow_code=allow_code, source=source)
    repeated = _by_part(trusted)
    options = {**settings.search.options, **{f"evaluator.{key}": value for key, value in evaluator.options.items()}}
    for role, changes in settings.sampling.items():
        options |= {f"sampling.{role}.{name}": value for name, value in changes.items()}
    arguments: dict[str, Any] = {}
    if opens_backend:
        confirmed = _confirmed(source, "backend", settings.backend, repeated)
        options |= {f"backend.{key}": value for key, value in confirmed.items()}
        arguments = {"backend": _name_of(settings.backend), "model": settings.backend.model}
    if isinstance(judging, BackendSettings):
        confirmed = _confirmed(source, "evaluator_backend", judging, repeated)
        judging_backend: str | Backend | None = open_backend(_name_of(judging), judging.model, confirmed)
    else:
        judging_backend = judging
    others: dict[str, Backend] = {}
    for name, other in settings.models.items():
        confirmed = _confirmed(source, f"backend_of.{name}", other, repeated)
        others[name] = open_backend(_name_of(other), other.model, confirmed)
    if unused := [f"{part}.{name}" for part, values in repeated.items() for name in values]:
        raise ConfigError(
            f"{unused[0]} cannot be changed: {source} continues with the settings that it was begun with. Only what "
            "says where requests go, or which secret goes along, is given again."
        )
    return {
        **arguments,
        "evaluator": evaluator.name,
        "evaluator_model": judging_backend,
        "backend_of": others,
        "options": options,
        "variables": settings.variables,
        "seed": run.seed,
        "budget": Budget(**run.budget.model_dump()),
        "legality": settings.legality,
        "speculate": settings.speculate,
    }


def _name_of(backend: BackendSettings) -> str | None:
    """The name that opens a recorded backend again; None for the default one where it had not loaded its model yet."""
    return None if backend.name == DEFAULT_BACKEND and backend.fallback is not None else backend.name


def _by_part(trusted: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options that were given again, by the backend they belong to. Raises ConfigError."""
    parts: dict[str, dict[str, Any]] = {"backend": {}, "evaluator_backend": {}}
    for name, value in trusted.items():
        part, _, option = name.partition(".")
        if part == "backend_of" and "." in option:
            part, _, option = name.rpartition(".")
            parts.setdefault(part, {})
        part = "evaluator_backend" if part == "evaluator_model" else part  # its name in a journal
        if part not in parts or not option:
            raise ConfigError(
                f"option {name!r}: a journal's settings stand; only options of the backend that say where requests go "
                "are given again, as backend.NAME, or evaluator_backend.NAME for a backend of the evaluator's own"
            )
        parts[part][option] = value
    return parts


def _confirmed(source: str, part: str, backend: BackendSettings, repeated: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The options of a recorded backend; those used are removed from ``repeated``. Raises ConfigError."""
    guarded = plugin_class("backend", backend.name).guarded_options()
    words = repeated.get(part, {})
    given = {name: words.pop(name) for name in guarded if name in words}
    return trust.confirmed_options(source, part, backend.options, guarded, given)


Options = dict[str, Any]
_PREFIXES = ("evaluator", "backend", "sampling", "evaluator_backend", "backend_of")


def split_options(options: Mapping[str, Any]) -> tuple[Options, ...]:
    """Options of the search, the evaluator, the backend, the task's sampling and the evaluator's backend, by prefix.

    Last those of the backends of further models, as ``NAME.OPTION``. Raises ConfigError.
    """
    own: Options = {}
    parts: dict[str, Options] = {prefix: {} for prefix in _PREFIXES}
    for key, value in options.items():
        prefix, _, rest = key.partition(".")
        if not rest:
            own[key] = value
        elif prefix in parts:
            parts[prefix][rest] = value
        else:
            raise ConfigError(
                f"option {key!r}: the part before the dot must be one of {', '.join(_PREFIXES)}."
                f"{did_you_mean(prefix, _PREFIXES)}"
            )
    return own, *parts.values()


def early_requests(number: int | str) -> int | None:
    """How many requests may run early; None for ``auto``. Raises ConfigError."""
    if number == "auto":
        return None
    try:
        whole = int(number)
        if isinstance(number, bool) or whole < 0:
            raise ValueError
    except ValueError:
        raise ConfigError(f"speculate: expected 'auto', 0 or a whole number above it, got {number!r}") from None
    return whole


def open_plugin(kind: str, plugin: Any, options: dict[str, Any]) -> Any:
    """A search or an evaluator from its name and options; an object is returned as it is. Raises ConfigError."""
    if isinstance(plugin, str):
        cls = plugin_class(kind, plugin)
        with PluginBoundary(kind, plugin, "its construction"):
            return build(kind, plugin, cls, options)
    if options:
        raise ConfigError(
            f"the {kind} is given as an object, so its options belong to the object: {', '.join(options)}"
        )
    return plugin_object(kind, plugin)


def open_backend(backend: str | Backend | None, model: str | None, options: dict[str, Any]) -> Backend:
    """A backend from its name; an object is returned as it is, and None is the default. Raises ConfigError."""
    if backend is None:
        return _open_default(model, options)
    if not isinstance(backend, str):
        given: Backend = plugin_object("backend", backend)
        if model is not None or options:
            raise ConfigError("the backend is given as an object, so model and backend options belong to the object")
        return _named(given, type(given).__qualname__)
    cls = plugin_class("backend", backend)
    with PluginBoundary("backend", backend, "its construction"):
        opened: Backend = cls.open(model, options)
        if not isinstance(opened, Backend):
            raise TypeError(f"open returned {type(opened).__name__}, expected a Backend")
    return _named(opened, backend)


def default_backends() -> list[str]:
    """What may run where the user names no backend: the default one, and its fallback where it has one."""
    fallback = plugin_class("backend", DEFAULT_BACKEND).fallback
    return [DEFAULT_BACKEND, *([fallback] if fallback is not None else [])]


def _open_default(model: str | None, options: dict[str, Any]) -> Backend:
    """The default backend, which its fallback replaces where it cannot run the model. Raises ConfigError."""
    _, *others = default_backends()
    if not others:
        return open_backend(DEFAULT_BACKEND, model, options)
    [fallback] = others
    try:
        first = open_backend(DEFAULT_BACKEND, model, options)
    except ConfigError as error:
        try:
            open_backend(fallback, model, options)
        except ConfigError:
            raise error from None
        raise ConfigError(f"{error} The backend {fallback!r} takes these options; name it to use them.") from error
    return FallbackBackend(first, fallback, lambda model: open_backend(fallback, model, options))


def _named(backend: Backend, called: str) -> Backend:
    """The backend itself. Raises PluginError for one without a name."""
    with PluginBoundary("backend", called, "its construction"):
        if not isinstance(getattr(backend, "name", None), str):
            raise TypeError("it has no name; set the class attribute 'name'")
    return backend


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


def further_models(others: Mapping[str, Backend]) -> dict[str, Any]:
    """The setting ``models``; none without further models."""
    return {"models": {name: description(used) for name, used in others.items()}} if others else {}


def check_capabilities(backend: Backend, needs: frozenset[str], who: str, *, loaded: bool = False) -> None:
    """Raise CapabilityError when the backend lacks a capability that ``who`` needs, or can never have it."""
    if not needs:
        return
    with PluginBoundary("backend", backend.name):
        offered = backend.capabilities if loaded else backend.possible_capabilities
    if missing := needs - offered:
        raise CapabilityError(
            f"{who} needs {', '.join(sorted(missing))}, which the backend {backend.name!r} does not offer (it offers: "
            f"{', '.join(sorted(offered))})"
        )


def check_devices(backends: Iterable[Backend]) -> None:
    """Raise ConfigError where this process lacks the device of one of the backends, and PluginError."""
    for used in backends:
        with PluginBoundary("backend", used.name):
            used.check_device()


def shown_by_loading(backend: Backend) -> bool:
    """Whether only loading shows what runs: the name of its model, or which of two backends."""
    return backend.model is None or (isinstance(backend, FallbackBackend) and not backend.settled)


def name_models(settings: dict[str, Any], backend: Backend, judging: Backend, others: Mapping[str, Backend]) -> None:
    """Write into the settings of an agent what only loading has shown: models, and backends that replace others."""
    settings |= further_models(others)
    replaced = any(isinstance(used, FallbackBackend) and used.refusal is not None for used in (backend, judging))
    for key, used in (("backend", backend), ("evaluator_model", judging)):
        recorded = settings[key]
        undecided = isinstance(recorded, dict) and (recorded["model"] is None or "fallback" in recorded)
        if undecided or (isinstance(recorded, str) and replaced):  # a name alone is one on the generator's backend
            settings[key] = description(used)


def keep_reasons(settings: dict[str, Any], recorded: RunSettings) -> None:
    """Write into the settings of an agent why the backends of its journal replaced others."""
    for key, before in (("backend", recorded.backend), ("evaluator_model", recorded.evaluator_model)):
        now = settings[key]
        if not isinstance(before, BackendSettings) or before.instead_of is None:
            continue
        if isinstance(now, dict) and now["name"] == before.name:
            settings[key] = {**now, "instead_of": before.instead_of.model_dump()}
