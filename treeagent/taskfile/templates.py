"""Jinja in a sandbox: templates and expressions of task files, strict about undefined names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import did_you_mean
from ..text import clean, lines
from .nulls import is_null, not_null

FAULTS = (TemplateError, SecurityError, TypeError, ValueError, ArithmeticError, LookupError)
"""What the evaluation of a template may raise."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """A mapping's keys go before its methods: a data row may have a column ``items``."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _plain(value: Any) -> None:
    """What ``tojson`` writes for a null."""
    if not is_null(value):
        raise TypeError(f"{type(value).__name__} is no value of JSON")


_ENVIRONMENT = _Sandbox(
    undefined=StrictUndefined,
    autoescape=False,  # prompts are text, not HTML
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


_ENVIRONMENT.tests["none"] = is_null
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _plain}


_ROWS = _ENVIRONMENT.overlay(finalize=not_null)


@lru_cache(maxsize=512)
def _template(source: str, *, row: bool = False) -> Template:
    return (_ROWS if row else _ENVIRONMENT).from_string(source)


def render(source: str, fields: dict[str, Any], *, row: bool = False) -> str:
    """The template's text. Raises one of FAULTS; over a data ``row`` also where it would write a null."""
    return clean(_template(source, row=row).render(fields))


@lru_cache(maxsize=512)
def _expression(source: str) -> Any:
    return _ENVIRONMENT.compile_expression(source, undefined_to_none=False)


def evaluate(expression: str, fields: dict[str, Any]) -> bool:
    """Whether the expression holds. Raises one of FAULTS."""
    return bool(_expression(expression)(fields))


def faults(source: str, names: Iterable[str], *, expression: bool = False) -> list[tuple[int, str]]:
    """Faults that show without rendering: ``(line within the source, message)`` each."""
    text = f"{{{{ {source} }}}}" if expression else source
    try:
        if expression:
            _ENVIRONMENT.compile_expression(source)
        undeclared = meta.find_undeclared_variables(_ENVIRONMENT.parse(text))
    except TemplateSyntaxError as error:
        return [(error.lineno, f"not a valid {'expression' if expression else 'template'}: {error.message}")]
    valid = sorted(names)
    return [
        (
            next((number for number, line in enumerate(lines(source), 1) if name in line), 1),
            f"unknown variable {name!r}.{did_you_mean(name, valid)}",
        )
        for name in sorted(undeclared - set(valid))
    ]


def describe(fault: Exception) -> str:
    """One line for a user."""
    if isinstance(fault, UndefinedError):
        return f"an undefined value is used: {fault.message}"
    return f"{type(fault).__name__}: {fault}"
