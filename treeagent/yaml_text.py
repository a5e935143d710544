"""YAML from files that users write or were given: one reader, with limits of size, depth and repetition."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from . import trust
from .errors import ConfigError, Problem

LONGEST = 1_000_000
"""Bytes of a file."""
_VALUES = 20_000
"""Values of a document, those that aliases repeat counted each time."""
_DEEPEST = 20  # a task file needs 4
_OPEN_TEMPLATE = re.compile(r"""(?:[:,\[{-]|^)\s*\{[{%]""")


def read(path: Path, what: str) -> str:
    """The text of a file; ``what`` names it in messages. Raises ConfigError."""
    try:
        content = trust.read_regular(path, most=LONGEST)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {what} {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def compose(text: str, path: Path | None) -> yaml.Node | None:
    """The nodes of a document; None for an empty one. Raises ConfigError, which gives the line."""
    if len(text) > LONGEST:
        raise ConfigError([Problem(path, None, "", f"the file has more than {LONGEST:,} characters")])
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _check_repetition(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise ConfigError([Problem(path, line, "", f"not valid YAML: {error.problem}{_hint(text, error)}")]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem(path, line, "", f"not valid YAML: the character {error.character:#x}")]) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # Overflow: "\UFFFFFFFF"
        raise ConfigError([Problem(path, None, "", f"not valid YAML: {error}")]) from error
    return node


def construct(node: yaml.Node) -> Any:
    """The value of a node. Raises :class:`yaml.YAMLError`, saying what is wrong, for a tag that does not fit."""
    try:
        return yaml.SafeLoader("").construct_document(node)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise yaml.MarkedYAMLError(
            problem=f"{getattr(node, 'value', '')!r:.60} is no {node.tag.rpartition(':')[2]}",
            problem_mark=node.start_mark,
        ) from error  # PyYAML's own constructors raise whatever Python's do


_INT = re.compile(r"[-+]?0b[01_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+")
_FLOAT = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
"""Plain words that are numbers. YAML 1.1 has two forms more, that nobody means: 010 is 8, and 1:30 is 90."""
_NUMBERS = {"tag:yaml.org,2002:int": _INT, "tag:yaml.org,2002:float": _FLOAT}


class _Loader(yaml.SafeLoader):
    """Counts values and depth while it composes; nothing is constructed. Octal and base-60 numbers are words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._depth = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if kind is yaml.ScalarNode and implicit[0] and tag in _NUMBERS and not _NUMBERS[tag].fullmatch(value):
            tag = self.DEFAULT_SCALAR_TAG
        return tag

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._values += 1
        self._depth += 1
        if self._depth > _DEEPEST or self._values > _VALUES:
            problem = "it is nested too deeply" if self._depth > _DEEPEST else f"it has more than {_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _check_repetition(root: yaml.Node) -> None:
    """Raises MarkedYAMLError for a node that contains itself, or where aliases make too many values of few."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise yaml.MarkedYAMLError(problem="an alias is within its own value", problem_mark=node.start_mark)
            return known
        sizes[id(node)] = None
        total = 1
        if isinstance(node, yaml.CollectionNode):
            for part in node.value:
                total += sum(map(size, part)) if isinstance(part, tuple) else size(part)
        if total > _VALUES:
            problem = f"its aliases repeat more than {_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        sizes[id(node)] = total
        return total

    size(root)


def _hint(text: str, error: yaml.MarkedYAMLError) -> str:
    """What to do where a template without quotes is the likely cause."""
    lines = text.split("\n")
    marks = {mark.line for mark in (error.problem_mark, error.context_mark) if mark is not None}
    if any(line < len(lines) and _OPEN_TEMPLATE.search(lines[line]) for line in marks):
        return "; put the template in quotes"
    return ""
