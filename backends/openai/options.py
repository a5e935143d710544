"""Checks of the options, and the key, which is read from the environment only."""

from __future__ import annotations

import os
from typing import Protocol
from urllib.parse import urlsplit

from treeagent.errors import ConfigError, did_you_mean

KEY = "OPENAI_API_KEY"
SERVERS = ("vllm", "sglang", "llamacpp", "ollama", "hosted")
SCORES = ("auto", "echo", "top", "first", "none")


class OptionValues(Protocol):
    """The options of a backend that are checked."""

    key_variable: str | None
    server: str | None
    score_by: str
    top_logprobs: int | None
    concurrency: int
    timeout: float
    patience: float
    attempts: int
    price_in: float | None
    price_out: float | None


def check(values: OptionValues) -> None:
    """Raise ConfigError for an impossible value."""
    for option, value, words in (("server", values.server, SERVERS), ("score", values.score_by, SCORES)):
        if value is not None and value not in words:
            raise ConfigError(f"option {option!r} has no value {value!r}.{did_you_mean(value, words)}")
    for option in ("concurrency", "attempts", "top_logprobs"):
        number = getattr(values, option)
        if number is not None and number < 1:
            raise ConfigError(f"{option} must be at least 1, not {number}")
    for option in ("timeout", "patience"):
        if not 0 < getattr(values, option) < float("inf"):
            raise ConfigError(f"{option} must be a positive number of seconds, not {getattr(values, option)}")
    prices = (values.price_in, values.price_out)
    if (prices[0] is None) != (prices[1] is None):
        raise ConfigError("price_in and price_out need each other: dollars per million prompt and completion tokens")
    if any(price is not None and not 0 <= price < float("inf") for price in prices):
        raise ConfigError(f"prices must be 0 or more dollars per million tokens, not {prices[0]} and {prices[1]}")
    read_key(values.key_variable)


def read_key(variable: str | None) -> str | None:
    """The key, or None without one. Raises ConfigError without showing the key."""
    name = variable or KEY
    key = os.environ.get(name, "").strip()
    if not key:
        if variable is not None:
            raise ConfigError(f"the environment variable {name}, which key_variable names, is not set")
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {name} is not a key: it contains blanks or control characters")
    return key


def checked_url(url: str) -> str:
    """The URL without a final slash. Raises ConfigError without showing a password."""
    try:
        parts = urlsplit(url.strip())
        host, secret = parts.hostname, parts.username or parts.password or parts.query or parts.fragment
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"base_url is not a URL: {error}") from None
    if secret:
        raise ConfigError(
            f"base_url must have no user, password or query, because journals contain it; put the key into the "
            f"environment variable {KEY} or the one that key_variable names"
        )
    if parts.scheme not in ("http", "https") or not host:
        shown = f", not {url!r}" if "@" not in url else "; the part before @ is not shown"
        raise ConfigError(f"base_url must look like http://127.0.0.1:8000/v1{shown}")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions", "/models"):
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path}"
