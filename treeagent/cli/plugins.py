"""``treeagent plugins``: list the registered plug-ins with their options and defaults."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from ..errors import ConfigError
from .arguments import echo


def plugins() -> None:
    """List every registered search, evaluator, backend, checker and command with its options and defaults.

    Set options with ``--set``: ``b=5`` for a search, ``evaluator.samples=3``, ``backend.threads=2``.
    """
    from .. import registry

    for kind in registry.KINDS:
        echo(f"{kind}:")
        for name in registry.names(kind):
            try:
                cls = registry.load(kind, name)
            except ConfigError as error:
                echo(f"  {name}: cannot be used: {error}")
                continue
            echo(f"  {name}: {_first_line(cls)}")
            for option in _options(cls):
                echo(f"      {option}")


def _first_line(cls: Any) -> str:
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]


def _options(cls: Any) -> list[str]:
    """``name=default (type)`` of each option: a dataclass's fields, or a backend's keyword-only scalars."""
    if dataclasses.is_dataclass(cls):
        return [f"{field.name}={_default(field.default)} ({_type(field.type)})" for field in dataclasses.fields(cls)]
    if not hasattr(cls, "open"):
        return []
    return [
        f"{parameter.name}={_default(parameter.default)} ({_type(parameter.annotation)})"
        for parameter in inspect.signature(cls.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and {*_type(parameter.annotation).split(" | ")} <= _SCALARS
    ]


_SCALARS = {"str", "int", "float", "bool", "None"}


def _default(value: Any) -> str:
    return "required" if value in (dataclasses.MISSING, inspect.Parameter.empty) else str(value)


def _type(annotation: Any) -> str:
    """The annotation as in the source, without bounds."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    while "Annotated[" in text:
        before, _, rest = text.partition("Annotated[")
        inner, _, after = rest.partition("]")
        text = before + inner.split(",")[0] + after
    return text
