"""Changes to how the completions of a role are drawn: ``--set sampling.ROLE.FIELD=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from .. import constraint
from ..errors import ConfigError, did_you_mean
from ..plugin_boundary import PluginBoundary
from ..request import Sampling
from ..task import Task
from ..taskfile.constrained_roles import refusal
from ..taskfile.schema import SamplingSpec
from ..validation import message

Changes = dict[str, dict[str, Any]]
"""Values by role and field, ready for JSON; None stands for a field that is left to the model."""

FIELDS = (*(field.name for field in fields(Sampling) if field.name != "constraint"), "n", *constraint.OPTIONS)
"""What can be changed; ``n`` is the number of completions where a search does not say it."""
_OPTIONAL = ("top_k", "top_p", "min_p", "thinking")
_MAPPINGS = ("template", "extra_body")
"""Fields whose keys can be set one by one: ``sampling.ROLE.template.NAME``."""


def with_changes(task: Task, options: Mapping[str, Any]) -> tuple[Task, Changes]:
    """The task with the changes that options say, and these. Raises ConfigError for what a role cannot have."""
    changes = read_changes(options, task.roles, task.name)
    if not changes:
        return task, changes
    task = task.with_sampling(changes)
    for role, values in changes.items():
        if (name := next((name for name in constraint.OPTIONS if name in values), None)) is None:
            continue
        try:
            with PluginBoundary("task", task.name):
                form = task.sampling(role)[0].constraint
        except ConfigError as error:
            raise ConfigError(f"option 'sampling.{role}.{name}': {error}") from None
        if form is not None and (reason := refusal(form)):
            raise ConfigError(f"option 'sampling.{role}.{name}': it cannot be a constraint: {reason}")
    return task, changes


def read_changes(options: Mapping[str, Any], roles: Sequence[str], task: str) -> Changes:
    """Changes from options named ``ROLE.FIELD``, whose values may be words. Raises ConfigError for every wrong one."""
    changes: Changes = {}
    problems: list[str] = []
    for key, value in options.items():
        role, _, name = key.partition(".")
        if role not in roles:
            hint = did_you_mean(role, roles)
            problems.append(f"option 'sampling.{key}': the task {task!r} has no role {role!r}.{hint}")
        elif (field := name.partition("."))[0] in _MAPPINGS and field[2]:
            changes.setdefault(role, {}).setdefault(field[0], {})[field[2]] = _word(value)
        elif name not in FIELDS:
            hint = did_you_mean(name, FIELDS)
            problems.append(f"option 'sampling.{key}': sampling has no field {name!r}.{hint}")
        else:
            try:
                before = changes.setdefault(role, {})
                read = _read(name, value)
                before[name] = {**before.get(name, {}), **read} if name in _MAPPINGS else read
            except ValidationError as error:
                problems.append(f"option 'sampling.{key}': {message(error.errors()[0])} (got {value!r:.60})")
    for role, values in changes.items():
        if len(given := [name for name in constraint.OPTIONS if name in values]) > 1:
            problems.append(f"option 'sampling.{role}.{given[1]}': the role has {given[0]!r} already; leave one out")
    if problems:
        raise ConfigError("\n".join(problems))
    return changes


def _word(value: Any) -> Any:
    """The value that a word of the command line says in JSON, else the word itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=str)
    except ValueError:
        return value


def _read(name: str, value: Any) -> Any:
    """The value of a field. Raises ValidationError."""
    if name != "regex":  # which may look like a number
        value = _word(value)
    if value == "none" and name in _OPTIONAL:
        value = None
    if value is None and name in _OPTIONAL:
        return None
    if name in ("stop", "choices") and isinstance(value, str):
        value = [value]
    if value is None:
        value = "null"  # no value, where the schema would take it for a missing key
    return getattr(SamplingSpec.model_validate({name: value}), name)
