"""The variables of a task, as its file and the user set them."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigError, did_you_mean
from ..task import Scalar
from .schema import TaskFile, as_type_of


def variable_values(spec: TaskFile, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The defaults of the file with the user's values over them. Raises ConfigError."""
    values: dict[str, Scalar] = {**spec.variables}
    for name, value in given.items():
        if name not in values:
            raise ConfigError(f"task {spec.name!r} has no variable {name!r}.{did_you_mean(name, spec.variables)}")
        values[name] = as_type_of(values[name], value, name)
    return values
