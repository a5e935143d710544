"""What a regular expression says, read from its syntax tree: how large it is, and whether it repeats repetitions."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from typing import Any

_PARSER: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_PROBES = frozenset(map(chr, range(128))) | {"\u00e9", "\u2028"}
"""Characters that stand for all: two repetitions that share none of these are taken for separate."""
_FEW = 10
"""A repetition of at most so many is none that can blow up."""


def parse(source: str) -> Any:
    """The syntax tree of the standard library's own parser. Raises what :func:`re.compile` raises."""
    return _PARSER.parse(source)


def size(tree: Any) -> int:
    """Characters that the shortest match has, at least one for every item: what a compiler unrolls."""
    return sum(_size(*item) for item in tree)


def _size(op: Any, value: Any) -> int:
    if str(op) in _REPEATS:
        least, _, body = value
        return max(1, int(least)) * (1 + size(body))
    return 1 + sum(size(part) for part in _parts(value))


def nested_quantifiers(tree: Any) -> bool:
    r"""Whether a repetition without end holds another one, and nothing in between tells where the inner one ends.

    ``(\w+\s?)+`` does; ``(?: \d+)*`` does not, because each round begins with a blank, which ``\d+`` cannot match.
    """
    for op, value in _items(tree):
        if str(op) in _REPEATS and str(op) != "POSSESSIVE_REPEAT" and value[1] > _FEW:
            body = value[2]
            inner = [part for part in _items(body) if str(part[0]) in _REPEATS and part[1][1] > max(_FEW, part[1][0])]
            repeated = frozenset[str]().union(*(_characters(part[1][2]) for part in inner))
            if inner and not any(_own(*item) and not _own(*item) & repeated for item in _sequence(body)):
                return True
    return False


def _sequence(tree: Any) -> Iterator[tuple[Any, Any]]:
    """The items of a body, groups opened where they are not repeated."""
    for op, value in tree:
        if str(op) == "SUBPATTERN":
            yield from _sequence(value[-1])
        else:
            yield op, value


def _own(op: Any, value: Any) -> frozenset[str]:
    """The characters of an item that stands for exactly one; empty for all others."""
    return _characters([(op, value)]) if str(op) in ("LITERAL", "NOT_LITERAL", "IN", "ANY") else frozenset()


def _characters(tree: Any) -> frozenset[str]:
    """The probes that one of the items matches."""
    return frozenset(probe for op, value in _items(tree) for probe in _PROBES if _matches(str(op), value, probe))


def _matches(op: str, value: Any, probe: str) -> bool:
    if op == "LITERAL":
        return bool(ord(probe) == value)
    if op == "NOT_LITERAL":
        return bool(ord(probe) != value)
    if op == "ANY":
        return probe != "\n"
    if op == "RANGE":
        return bool(value[0] <= ord(probe) <= value[1])
    if op == "CATEGORY":
        escape = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[str(value).rpartition("_")[2]]
        return (re.match(escape, probe) is None) == ("_NOT_" in str(value))
    if op == "IN":
        negated = str(value[0][0]) == "NEGATE"
        return any(_matches(str(part), inner, probe) for part, inner in value if str(part) != "NEGATE") != negated
    return False


def _items(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every item of a tree, outer ones first."""
    for op, value in tree:
        yield op, value
        if str(op) != "IN":
            for part in _parts(value):
                yield from _items(part)


def _parts(value: Any) -> Iterator[Any]:
    """The trees within an item's value."""
    if isinstance(value, _PARSER.SubPattern):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(part)
