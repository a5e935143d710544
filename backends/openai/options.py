"""Checks of the options, and the key, which is read from the environment only."""

from __future__ import annotations

import os
import re
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from treeagent.errors import ConfigError, did_you_mean
from treeagent.reasoning import Thinking

KEY = "OPENAI_API_KEY"
SERVERS = ("vllm", "sglang", "llamacpp", "ollama", "hosted")
SCORES = ("auto", "echo", "top", "first", "none")
STOPS = ("auto", "server", "client")


class OptionValues(Protocol):
    """The options of a backend that are checked."""

    key_variable: str | None
    key_header: str | None
    query: str | None
    server: str | None
    score_by: str
    thinking: str
    stop_strings: str
    top_logprobs: int | None
    concurrency: int
    timeout: float
    patience: float
    attempts: int
    price_in: float | None
    price_out: float | None


def check(values: OptionValues) -> None:
    """Raise ConfigError for an impossible value."""
    choices = (
        ("server", values.server, SERVERS),
        ("score", values.score_by, SCORES),
        ("stop_strings", values.stop_strings, STOPS),
    )
    for option, value, words in choices:
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
    Thinking.parse(values.thinking)
    _check_query(values.query)
    if values.key_header is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", values.key_header):
        raise ConfigError(f"key_header must be the name of a header, such as api-key, not {values.key_header!r}")
    read_key(values.key_variable)


def _check_query(query: str | None) -> None:
    """Raise ConfigError for a query that is none, or that holds a secret, which would stand in journals."""
    if query is None:
        return
    names = [name for name, _ in parse_qsl(query)]
    if not names or not re.fullmatch(r"[\w.~%&=+-]+", query, re.ASCII):
        raise ConfigError("query must look like api-version=2024-10-21")
    if secret := [name for name in names if re.search(r"key|token|secret|sig|code|auth|passw", name, re.IGNORECASE)]:
        raise ConfigError(
            f"query must hold no secret such as {secret[0]!r}, because journals contain it; put the key into the "
            f"environment variable {KEY} or the one that key_variable names"
        )


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
            f"environment variable {KEY} or the one that key_variable names, and a query such as api-version into the "
            "option query"
        )
    if parts.scheme not in ("http", "https") or not host:
        shown = f", not {url!r}" if "@" not in url else "; the part before @ is not shown"
        raise ConfigError(f"base_url must look like http://127.0.0.1:8000/v1{shown}")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions", "/models"):
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path}"


def is_azure(url: str) -> bool:
    """Whether the API is Azure's, whose list of models does not have the names of deployments."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".azure.com", ".azure-api.net"))
