"""Finds tasks, strategies, evaluators, backends and checkers by entry points: ours and a third party's alike.

Groups: ``treeagent.strategies``, ``treeagent.evaluators``, ``treeagent.backends`` and ``treeagent.checkers`` name a
class each, ``treeagent.commands`` a function that typer can make a command of. ``treeagent.tasks`` names a class
(``package.module:Name``) that is a task, or a package in which every YAML file is a task.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import extras, trust
from .errors import ConfigError, PluginError, UnknownNameError
from .plugin_boundary import PluginBoundary

if TYPE_CHECKING:
    from importlib.abc import Traversable

KINDS = {
    "search": "strategies",
    "evaluator": "evaluators",
    "backend": "backends",
    "checker": "checkers",
    "command": "commands",
}
"""What a user calls it, and the entry-point group's last part."""
_TASKS = "treeagent.tasks"
_IMPORT_FAILURES = (ImportError, AttributeError, ValueError)


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted."""
    return sorted({entry.name for entry in entries(kind)})


def entries(kind: str) -> metadata.EntryPoints:
    """Everything registered of a kind, not imported."""
    return _entry_points(f"treeagent.{KINDS[kind]}", tuple(sys.path))


@lru_cache
def _entry_points(group: str, _path: tuple[str, ...]) -> metadata.EntryPoints:
    """The entry points of a group; reading the metadata of all installed packages takes tens of milliseconds."""
    return metadata.entry_points(group=group)


def load(kind: str, name: str, *, allow_code: bool = False, source: str = "") -> Any:
    """The object registered under a name, or, with ``allow_code``, at ``package.module:Name``.

    ``source`` is the file that gave the name, for messages. Raises UnknownNameError, MissingExtraError where it needs
    an optional library, and ConfigError where it is not allowed or cannot be imported for another reason.
    """
    if trust.is_code(name):
        trust.check_code(kind, name, allow_code=allow_code, source=source)
        module, _, attribute = name.partition(":")
        try:
            with PluginBoundary(kind, name, "its import", passing=_IMPORT_FAILURES):
                return getattr(importlib.import_module(module), attribute)
        except _IMPORT_FAILURES as error:
            raise _import_failure(error, kind, name, f"cannot import the {kind} {name!r}: {error}") from error
    registered = entries(kind).select(name=name)
    if not registered:
        raise UnknownNameError(kind, name, names(kind))
    return load_entry(kind, next(iter(registered)))


def fault(kind: str, name: str, base: type, *, allow_code: bool) -> str | None:
    """Why a name that a file gives cannot be used as a plug-in of a kind; None where it can.

    A registered name is not imported; code outside the registry is, with ``allow_code``, and must derive from ``base``.
    """
    if not trust.is_code(name):
        known = names(kind)
        return None if name in known else str(UnknownNameError(kind, name, known))
    try:
        plugin = load(kind, name, allow_code=allow_code)
    except (ConfigError, PluginError) as error:
        return str(error)
    if not (isinstance(plugin, type) and issubclass(plugin, base)):
        return f"{name!r} is no {kind}: expected a class derived from treeagent.{base.__name__}"
    return None


def load_entry(kind: str, entry: metadata.EntryPoint) -> Any:
    """The object that an entry point names. Raises ConfigError."""
    try:
        with PluginBoundary(kind, entry.name, "its import", passing=_IMPORT_FAILURES):
            return entry.load()
    except _IMPORT_FAILURES as error:
        text = f"the {kind} {entry.name!r} is registered as {entry.value} but cannot be imported: {error}"
        raise _import_failure(error, kind, entry.name, text, entry.dist.name if entry.dist else None) from error


def _import_failure(error: Exception, kind: str, name: str, text: str, distribution: str | None = None) -> ConfigError:
    """The error to raise for a plug-in that cannot be imported."""
    missing = None
    if isinstance(error, ImportError):
        missing = extras.from_import_error(f"the {kind} {name!r}", error, distribution)
    return missing or ConfigError(text)


def task_files() -> dict[str, Traversable]:
    """Every registered YAML task by name; where two packages have one of the same name, the first package counts."""
    files: dict[str, Traversable] = {}
    packages = [entry for entry in _entry_points(_TASKS, tuple(sys.path)) if not entry.attr]
    for entry in sorted(packages, key=lambda entry: entry.value):
        try:
            folder = resources.files(entry.value)
        except ImportError as error:
            raise ConfigError(
                f"the task package {entry.value!r} is registered but cannot be imported: {error}"
            ) from error
        for item in sorted(folder.iterdir(), key=lambda item: item.name):
            if item.name.endswith((".yaml", ".yml")):
                files.setdefault(item.name.rsplit(".", 1)[0], item)
    return files


def is_task_folder(folder: Path) -> bool:
    """Whether a folder is that of a registered package of YAML tasks."""
    return folder.resolve() in {Path(str(file)).parent.resolve() for file in task_files().values()}


def task_classes() -> dict[str, metadata.EntryPoint]:
    """Every registered task that is a Python class, by name, not imported."""
    return {entry.name: entry for entry in _entry_points(_TASKS, tuple(sys.path)) if entry.attr}


def task_names() -> list[str]:
    """Names of all registered tasks, sorted. A YAML file takes precedence over a class of the same name."""
    return sorted({*task_files(), *task_classes()})
