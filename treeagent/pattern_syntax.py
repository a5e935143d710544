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
    return any(
        str(op) in _REPEATS and str(op) != "POSSESSIVE_REPEAT" and value[1] > _FEW and _ambiguous(value[2])
        for op, value in _items(tree)
    )


def _ambiguous(body: Any) -> bool:
    """Whether a body that holds a repetition can follow itself without a border between the rounds.

    A border is a part that each round has, whose characters no repetition beside it matches; where it is a repetition
    itself, each round must have another part of other characters too.
    """
    parts = [[item] for item in _sequence(body)]
    if not any(_repeated(part) for part in parts):
        return False
    needed = [_is_needed(*part[0]) for part in parts]
    for place, part in enumerate(parts):
        others = [other for at, other in enumerate(parts) if at != place]
        own = _characters(part)
        if needed[place] and not any(own & _repeated(other) for other in others):
            apart = (_is_needed(*other[0]) and not own & _characters(other) for other in others)
            if not _repeated(part) or any(apart):
                return False
    return True


def _repeated(tree: Any) -> frozenset[str]:
    """The characters of all repetitions of varying length."""
    inner = (value for op, value in _items(tree) if str(op) in _REPEATS and value[1] > max(_FEW, value[0]))
    return frozenset[str]().union(*(_characters(value[2]) for value in inner))


def _is_needed(op: Any, value: Any) -> bool:
    """Whether an item matches at least one character."""
    if str(op) in _REPEATS:
        return value[0] > 0 and any(_is_needed(*item) for item in value[2])
    if str(op) == "BRANCH":
        return all(any(_is_needed(*item) for item in branch) for branch in value[1])
    if str(op) == "SUBPATTERN":
        return any(_is_needed(*item) for item in value[-1])
    return str(op) in ("LITERAL", "NOT_LITERAL", "IN", "ANY")


def _sequence(tree: Any) -> Iterator[tuple[Any, Any]]:
    """The items of a body, groups opened where they are not repeated."""
    for op, value in tree:
        if str(op) == "SUBPATTERN":
            yield from _sequence(value[-1])
        else:
            yield op, value


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
