"""Seeded mutations of bytes, texts and JSON values."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

TEXTS = (
    "", " ", "\n", "\r\n", "\t", "\x00", "\x1b[31m", "\u2028", "\u0085", "\ufeff", "\u202e", "\ud83d", "\U0001f600",
    "e\u0301", "<think>", "</think>", "{{ input }}", "{input}", "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 9**(9**9) }}", "{{ 'a' * 10**10 }}", "{{ x", "{%", "%}", "<script>", "</script>", "'", '"', "\\", "`", "$(id)",
    "NaN", "Infinity", "-1", "0", "1e999", "9" * 5000, "(" * 3000, "[" * 3000, "{" * 3000, "a" * 20000, "1 + " * 2000,
    "(a+)+$", "(\\w+\\s?)+\\.", "(?P<answer>.*)", "[a-", "a{99999999999}", "null", "true", "yes", "~", "!!timestamp zz",
    "!!python/object:os.system x", "&a [*a, *a]", "*a", "<<: *a", "---", "...", "../../../etc/passwd", "/dev/zero",
    "module:Class", "os:system", "http://127.0.0.1:1/v1", "= 24", "(left: 4 6)", "sure", "impossible", "not sure",
    "8.5", "2/10", "1 / 0 = 0 (left: 24)", "10 - 4 = 6 (left: 5 6 6)",
)  # fmt: skip
"""Pieces that programs trip over."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**30, -(10**30), 0.5, float("nan"), float("inf"), -float("inf"), 1e-320, "", "x",
    "\ud83d", "5", [], {}, [None], [[]], {"a": 1}, ["x"] * 50, "a" * 5000, [1, 2, 3], {"name": "bfs"}, {"": None},
)  # fmt: skip
"""JSON values in the place of others."""


def mutated_bytes(draw: random.Random, data: bytes, most: int = 8) -> bytes:
    """One to ``most`` mutations of bytes: flips, cuts, copies, insertions."""
    out = bytearray(data)
    for _ in range(draw.randint(1, most)):
        at = draw.randint(0, len(out))
        to = min(len(out), at + draw.choice((1, 2, 8, 64, 1024)))
        act = draw.randrange(7)
        if act == 0 and out:
            out[min(at, len(out) - 1)] = draw.randrange(256)
        elif act == 1:
            del out[at:to]
        elif act == 2:
            out[at:at] = out[at:to] * draw.choice((1, 2, 50))
        elif act == 3:
            out[at:at] = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
        elif act == 4:
            out[at:to] = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
        elif act == 5 and draw.random() < 0.3:
            del out[at:]
        else:
            lines = bytes(out).split(b"\n")
            place = draw.randrange(len(lines))
            lines.insert(draw.randrange(len(lines) + 1), lines.pop(place) if draw.random() < 0.5 else lines[place])
            out = bytearray(b"\n".join(lines))
    return bytes(out)


def mutated_text(draw: random.Random, text: str, most: int = 8) -> str:
    """Like :func:`mutated_bytes`, for a str, which may then hold lone surrogates."""
    return mutated_bytes(draw, text.encode("utf-8", "surrogatepass"), most).decode("utf-8", "surrogateescape")


def mutated_value(draw: random.Random, value: Any, most: int = 3) -> Any:
    """A JSON value with one to ``most`` of its parts replaced, removed, renamed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, most)):
        places = list(_places(value))
        if not places:
            return draw.choice(VALUES)
        holder, key = draw.choice(places)
        _mutate(draw, holder, key)
    return value


def _mutate(draw: random.Random, holder: Any, key: Any) -> None:
    """Change one part of a list or dict."""
    act = draw.randrange(6)
    if act == 0:
        del holder[key]
    elif act == 1 and isinstance(holder, dict):
        holder[draw.choice((str(key) + "x", str(key)[:-1], "", "name", "type"))] = holder.pop(key)
    elif act == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif act == 3 and isinstance(holder[key], str):
        holder[key] = mutated_text(draw, holder[key], 3)
    elif act == 4:
        holder[key] = draw.choice(([holder[key]], {"a": holder[key]}, str(holder[key])))
    else:
        holder[key] = copy.deepcopy(draw.choice(VALUES))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) inside a JSON value."""
    places: list[tuple[Any, Any]] = []
    open_values = [value] if isinstance(value, dict | list) else []
    while open_values:
        holder = open_values.pop()
        keys: Sequence[Any] = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                open_values.append(holder[key])
    return places


def mutated_lines(draw: random.Random, data: bytes) -> bytes:
    """JSON Lines in which some lines are mutated as values, some as bytes, some moved or cut."""
    lines = data.splitlines()
    for _ in range(draw.randint(1, 3)):
        if not lines:
            break
        place = draw.randrange(len(lines))
        if draw.random() < 0.7:
            lines[place] = _dumped(_changed(draw, lines[place]))
        else:
            lines[place] = mutated_bytes(draw, lines[place], 3)
    if draw.random() < 0.2:
        del lines[draw.randrange(len(lines) + 1) :]
    if draw.random() < 0.1:
        draw.shuffle(lines)
    whole = b"\n".join(lines) + b"\n"
    return whole[: draw.randrange(len(whole))] if draw.random() < 0.1 else whole


def _changed(draw: random.Random, line: bytes) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return draw.choice(VALUES)
    return mutated_value(draw, value)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def pieces(draw: random.Random, own: Sequence[str], most: int = 12) -> str:
    """A text joined from pieces of one's own and of :data:`TEXTS`, as a confused model writes."""
    glue: Callable[[], str] = lambda: draw.choice(("\n", " ", "", "\n\n", ". "))  # noqa: E731
    source = [*own, *own, *TEXTS]
    return "".join(draw.choice(source) + glue() for _ in range(draw.randint(0, most)))
