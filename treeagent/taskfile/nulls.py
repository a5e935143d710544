"""A null of a data row in templates: not there, rather than the text ``None``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jinja2 import Undefined, UndefinedError


class NullValueError(UndefinedError):
    """A template uses a value that is null in the row."""


class Null(Undefined):
    """Stands for null: its use is an error, its test is not.

    The filter ``default`` and the tests ``is defined`` and ``is none`` guard it, and it is false.
    """

    def __init__(self, name: str) -> None:
        super().__init__(hint=f"the value of {name} is null", name=name, exc=NullValueError)

    def __str__(self) -> str:
        raise NullValueError(self._undefined_message)

    def __iter__(self) -> Iterator[Any]:
        raise NullValueError(self._undefined_message)

    def __len__(self) -> int:
        raise NullValueError(self._undefined_message)

    def __eq__(self, other: object) -> bool:
        return is_null(other)

    def __ne__(self, other: object) -> bool:
        return not is_null(other)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        return "None"


def is_null(value: Any) -> bool:
    """The test ``is none`` of templates."""
    return value is None or isinstance(value, Null)


def not_null(value: Any) -> Any:
    """A value that a template is about to write. Raises NullValueError for null."""
    if value is None:
        raise NullValueError("the value is null")
    return value


def with_nulls(value: Any, name: str) -> Any:
    """A value of a data row with a :class:`Null` in place of every null, NaN (which stands for it) and infinity."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Null(name)
    if isinstance(value, dict):
        return {key: with_nulls(item, repr(key)) for key, item in value.items()}
    return [with_nulls(item, name) for item in value] if isinstance(value, list) else value


def without_nulls(value: Any) -> Any:
    """The value with None in place of every :class:`Null`: what a journal can hold."""
    if is_null(value):
        return None
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items()}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
