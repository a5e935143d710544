"""Faults that pydantic finds, in words for a user: they name keys, and no class of the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from .errors import did_you_mean

_MAPPINGS = ("model_type", "model_attributes_type", "dataclass_type", "dict_type")


def message(fault: Mapping[str, Any], form: type[BaseModel] | None = None) -> str:
    """What is wrong, for one of ``ValidationError.errors()``; ``form`` is the model that was validated."""
    kind, loc = fault["type"], fault["loc"]
    if kind == "extra_forbidden":
        valid = [] if form is None else keys_at(form, loc[:-1])
        return f"unknown key.{did_you_mean(str(loc[-1]), valid)}" if valid else "unknown key"
    if kind == "missing":
        return "this key is missing"
    if kind in _MAPPINGS:
        return "expected a mapping of keys to values"
    return str(fault["msg"]).removeprefix("Value error, ")


def keys_at(form: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The valid keys at a place of a form, such as ``("budget",)``; empty where it has no fixed ones."""
    model: type[BaseModel] | None = form
    for part in loc:
        if isinstance(part, str):  # not the index of an item
            field = None if model is None else model.model_fields.get(part)
            model = None if field is None else _section(field.annotation)
    return [] if model is None else list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model in a type such as ``list[FilterSpec] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _section(part)) is not None), None)
