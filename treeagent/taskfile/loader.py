"""Loads a task by name, path or class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import registry, yaml_text
from ..errors import ConfigError, UnknownNameError
from ..options import build
from ..task import Scalar, Task
from .yaml_task import YamlTask


def load(name: str | Path, variables: Mapping[str, Scalar], *, allow_code: bool) -> Task:
    """See :meth:`treeagent.Task.load`."""
    if not isinstance(name, str | Path):
        raise ConfigError(f"task: expected a name, the path of a YAML file or an object of a task, got {name!r:.60}")
    if is_path(name):
        path = Path(name)
        text = yaml_text.read(path, "task file")
        return YamlTask(text, path, variables=variables, allow_code=allow_code)
    name = str(name)
    if ":" in name:
        return _instance(name, registry.load("task", name, allow_code=allow_code), variables)
    files, classes = registry.task_files(), registry.task_classes()
    if name in files:
        text = files[name].read_text(encoding="utf-8")
        return YamlTask(text, Path(str(files[name])), variables=variables, allow_code=allow_code)
    if name in classes:
        return _instance(name, registry.load_entry("task", classes[name]), variables)
    beside = next((f"./{name}{ending}" for ending in (".yaml", ".yml") if Path(f"{name}{ending}").is_file()), None)
    hint = " A path to a YAML file is accepted too; 'treeagent tasks new' writes one."
    if beside:
        hint = f" There is a file of that name: give {beside}."
    raise UnknownNameError("task", name, registry.task_names(), hint)


def _instance(name: str, cls: object, variables: Mapping[str, Scalar]) -> Task:
    """A task from its class, with the variables as its fields. Raises ConfigError."""
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise ConfigError(f"{name!r} is no task: expected a class derived from treeagent.Task")
    try:
        return build("task", name, cls, variables)
    except TypeError as error:  # an abstract class, or a constructor with arguments
        raise ConfigError(f"the task {name!r} cannot be created without arguments: {error}") from error


def is_path(name: str | Path) -> bool:
    """Whether a task is named by the path of its file."""
    return isinstance(name, Path) or "/" in name or name.endswith((".yaml", ".yml"))
