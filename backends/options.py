"""Options of a backend from the command line's words; no model library is needed to read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treeagent.errors import ConfigError, did_you_mean


def read_options(backend: str, kinds: Mapping[str, type], words: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all options given. Raises ConfigError for an unknown or misformed one."""
    chosen: dict[str, Any] = {}
    for option, word in words.items():
        if option not in kinds:
            raise ConfigError(f"backend {backend!r} has no option {option!r}.{did_you_mean(option, kinds)}")
        chosen[option] = read_option(option, word, kinds[option])
    return chosen


def read_option(option: str, word: Any, kind: type) -> Any:
    """An option's value from the command line's word. Raises ConfigError."""
    if kind is bool:
        if str(word).lower() not in ("true", "false"):
            raise ConfigError(f"option {option!r} must be true or false, not {word!r}")
        return str(word).lower() == "true"
    try:
        return kind(word)
    except (TypeError, ValueError):
        raise ConfigError(
            f"option {option!r} must be a {'whole ' if kind is int else ''}number, not {word!r}"
        ) from None


def as_words(options: Mapping[str, Any]) -> dict[str, str]:
    """The inverse: what a journal keeps; an option that is None is left out."""
    return {
        option: str(value).lower() if isinstance(value, bool) else str(value)
        for option, value in options.items()
        if value is not None
    }
