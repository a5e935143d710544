"""Options of plug-ins: from the strings of a command line to values, and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .errors import ConfigError, did_you_mean
from .validation import message

if TYPE_CHECKING:
    from collections.abc import Mapping


T = TypeVar("T")


def build(kind: str, name: str, cls: type[T], options: Mapping[str, Any]) -> T:
    """An instance of a dataclass from options that may be strings. Raises ConfigError naming every wrong one."""
    valid = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    unknown = [key for key in options if key not in valid]
    if unknown:
        raise ConfigError(
            "\n".join(f"{kind} {name!r} has no option {key!r}.{did_you_mean(key, valid)}" for key in unknown)
        )
    if not is_dataclass(cls):
        return cls()
    try:
        return TypeAdapter(cls).validate_python(dict(options))
    except ValidationError as error:
        faults = (
            f"{kind} {name!r}: option {'.'.join(map(str, item['loc']))!r}: {message(item)} (got {item['input']!r})"
            for item in error.errors()
        )
        raise ConfigError("\n".join(faults)) from error


def read_options(backend: str, kinds: Mapping[str, type], words: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all options given. Raises ConfigError for an unknown or misformed one."""
    chosen: dict[str, Any] = {}
    for option, word in words.items():
        if option not in kinds:
            raise ConfigError(f"backend {backend!r} has no option {option!r}.{did_you_mean(option, kinds)}")
        chosen[option] = read_option(option, word, kinds[option])
    return chosen


def read_option(option: str, word: Any, kind: type) -> Any:
    """An option's value from a string, or from a value of its kind as a journal has it. Raises ConfigError."""
    if not isinstance(word, str | int | float | PurePath):
        raise ConfigError(f"option {option!r} must be a text, a number, true or false, not {word!r:.60}")
    if kind is bool:
        if str(word).lower() not in ("true", "false"):
            raise ConfigError(f"option {option!r} must be true or false, not {word!r}")
        return str(word).lower() == "true"
    try:
        if isinstance(word, bool) and kind is not str:
            raise ValueError("true and false are no numbers")
        value = kind(word)
        if isinstance(word, float) and kind is int and value != word:
            raise ValueError("it is not whole")
        return value
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"option {option!r} must be a {'whole ' if kind is int else ''}number, not {word!r}"
        ) from None


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`read_options`, for a journal: numbers are numbers. An option that is None is left out."""
    return {
        option: value if isinstance(value, bool | int | float) else str(value)
        for option, value in options.items()
        if value is not None
    }


def same_value(before: Any, now: Any) -> bool:
    """Whether two recorded values of an option are equal; journals of before have texts for numbers."""
    if isinstance(before, str) and isinstance(now, bool | int | float):
        return before == (str(now).lower() if isinstance(now, bool) else str(now))
    return bool(before == now)
