"""The options that can be wrong, and the key, which comes from the environment alone."""

from __future__ import annotations

import os
from typing import Protocol
from urllib.parse import urlsplit

from treeagent.errors import ConfigError, did_you_mean

KEY = "OPENAI_API_KEY"
SERVERS = ("vllm", "sglang", "llamacpp", "ollama", "hosted")
SCORES = ("auto", "echo", "top", "first", "none")


class Settings(Protocol):
    """What is checked of a backend."""

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


def check(given: Settings) -> None:
    """Raise ConfigError for a value that cannot be meant."""
    for option, value, words in (("server", given.server, SERVERS), ("score", given.score_by, SCORES)):
        if value is not None and value not in words:
            raise ConfigError(f"option {option!r} has no value {value!r}.{did_you_mean(value, words)}")
    for option in ("concurrency", "attempts", "top_logprobs"):
        number = getattr(given, option)
        if number is not None and number < 1:
            raise ConfigError(f"{option} must be at least 1, not {number}")
    for option in ("timeout", "patience"):
        if not 0 < getattr(given, option) < float("inf"):
            raise ConfigError(f"{option} must be a positive number of seconds, not {getattr(given, option)}")
    prices = (given.price_in, given.price_out)
    if (prices[0] is None) != (prices[1] is None):
        raise ConfigError("price_in and price_out belong together: dollars per million tokens of each")
    if any(price is not None and not 0 <= price < float("inf") for price in prices):
        raise ConfigError(f"prices must be 0 or more dollars per million tokens, not {prices[0]} and {prices[1]}")
    read_key(given.key_variable)


def read_key(variable: str | None) -> str | None:
    """The key, None where there is none. Raises ConfigError, in which it does not stand."""
    name = variable or KEY
    key = os.environ.get(name, "").strip()
    if not key:
        if variable is not None:
            raise ConfigError(f"the environment variable {name}, which key_variable names, is not set")
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {name} does not hold a key: it has blanks or odd characters")
    return key


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises ConfigError; the message shows no password."""
    try:
        parts = urlsplit(url.strip())
        host, secret = parts.hostname, parts.username or parts.password or parts.query or parts.fragment
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"base_url is no URL: {error}") from None
    if secret:
        raise ConfigError(
            f"base_url must have no user, password or query (it is written into journals); keys come from the "
            f"environment variable {KEY} or the one that key_variable names"
        )
    if parts.scheme not in ("http", "https") or not host:
        shown = f", not {url!r}" if "@" not in url else "; what stands before an @ is not shown"
        raise ConfigError(f"base_url must look like http://127.0.0.1:8000/v1{shown}")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions", "/models"):
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path}"
