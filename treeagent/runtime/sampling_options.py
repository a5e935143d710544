"""Changes to how the completions of a role are drawn: ``--set sampling.ROLE.FIELD=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError, did_you_mean
from ..request import Sampling
from ..taskfile.schema import SamplingSpec

Changes = dict[str, dict[str, Any]]
"""Values by role and field, ready for JSON; None stands for a field that is left to the model."""

FIELDS = (*(field.name for field in fields(Sampling)), "n")
"""What can be changed; ``n`` is the number of completions where a search does not say it."""
_OPTIONAL = ("top_k", "top_p", "min_p")


def read_changes(options: Mapping[str, Any], roles: Sequence[str], task: str) -> Changes:
    """Changes from options named ``ROLE.FIELD``, whose values may be words. Raises ConfigError for every wrong one."""
    changes: Changes = {}
    problems: list[str] = []
    for key, value in options.items():
        role, _, name = key.partition(".")
        if role not in roles:
            hint = did_you_mean(role, roles)
            problems.append(f"option 'sampling.{key}': the task {task!r} has no role {role!r}.{hint}")
        elif name not in FIELDS:
            hint = did_you_mean(name, FIELDS)
            problems.append(f"option 'sampling.{key}': sampling has no field {name!r}.{hint}")
        else:
            try:
                changes.setdefault(role, {})[name] = _read(name, value)
            except ValidationError as error:
                problems.append(f"option 'sampling.{key}': {error.errors()[0]['msg']} (got {value!r:.60})")
    if problems:
        raise ConfigError("\n".join(problems))
    return changes


def _read(name: str, value: Any) -> Any:
    """The value of a field. Raises ValidationError."""
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=str)
        except ValueError:
            value = None if value == "none" and name in _OPTIONAL else value
    if value is None and name in _OPTIONAL:
        return None
    if name == "stop" and isinstance(value, str):
        value = [value]
    if value is None:
        value = "null"  # no value, where the schema would take it for a missing key
    return getattr(SamplingSpec.model_validate({name: value}), name)
