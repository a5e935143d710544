"""On which line of a task file each key stands, and what is wrong with its keys and plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from .. import yaml_text
from ..errors import Problem

Loc = tuple[str | int, ...]
"""The keys that lead to a value."""
Lines = dict[Loc, int]
_BLOCK = "|"
"""Below a key whose value is a block scalar: the line before its first."""
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class KeyLines:
    """The keys of one file, for messages about them."""

    path: Path | None
    lines: Lines

    def problem(self, loc: Loc, message: str, line_within: int = 0) -> Problem:
        """A problem of the key ``loc``; ``line_within`` is a line of its block scalar, from 1."""
        line, block = line_of(self.lines, loc), self.lines.get((*loc, _BLOCK))
        if line_within and block is not None:
            line = block + line_within
        return Problem(self.path, line, ".".join(map(str, loc)), message)


def line_of(lines: Lines, loc: Loc) -> int | None:
    """The line of a key, or of the nearest enclosing key that is in the file."""
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc)


def key_lines(root: yaml.Node | None, path: Path | None) -> tuple[Lines, list[Problem]]:
    """The line of every key, and what would be lost or misread in silence: see :class:`_KeyWalk`.

    The nodes are mended where they are faulty, so that they can be constructed.
    """
    walk = _KeyWalk(path)
    if root is not None:
        walk.value(root, ())
    return walk.lines, walk.problems


class _KeyWalk:
    """Finds keys given twice, keys that YAML reads as no text, values that their tag does not fit, open templates."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.lines: Lines = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, loc: Loc) -> None:
        """A value and all within it."""
        if isinstance(node, yaml.MappingNode):
            for number, (key, value) in enumerate(node.value):
                node.value[number] = self._pair(key, value, loc)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                place: Loc = (*loc, index)
                self.lines[place] = value.start_mark.line + 1
                node.value[index] = self._checked(value, place)

    def _pair(self, key: yaml.Node, value: yaml.Node, loc: Loc) -> tuple[yaml.Node, yaml.Node]:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            self._add(line, loc, "a key must be a text")
            key = yaml.ScalarNode(_TEXT, "?", key.start_mark, key.end_mark)
        inner = (*loc, str(key.value))
        if inner in self.lines:
            self._add(line, inner, f"the key is given twice; first on line {self.lines[inner]}")
        if key.tag not in (_TEXT, _MERGE):
            self._add(line, inner, as_written(key))
            key = yaml.ScalarNode(_TEXT, key.value, key.start_mark, key.end_mark)
        self.lines[inner] = line
        if isinstance(value, yaml.ScalarNode) and value.style == "|":
            block: Loc = (*inner, _BLOCK)
            self.lines[block] = value.start_mark.line + 1
        return key, self._checked(value, inner)

    def _checked(self, node: yaml.Node, loc: Loc) -> yaml.Node:
        """The node, or an empty text in its place where it is faulty."""
        empty = yaml.ScalarNode(_TEXT, "", node.start_mark, node.end_mark)
        if isinstance(node, yaml.MappingNode) and node.flow_style:
            keys = [key for key, _ in node.value]
            if len(keys) == 1 and isinstance(keys[0], yaml.MappingNode):  # {{ x }} is a mapping in a mapping
                self._add(node.start_mark.line + 1, loc, "a template begins like a mapping; put the template in quotes")
                return empty
        self.value(node, loc)
        plain = {"map": yaml.MappingNode, "seq": yaml.SequenceNode}.get(node.tag.rpartition(":")[2], yaml.ScalarNode)
        try:
            if not isinstance(node, plain):
                raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} does not fit")
            if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT:
                yaml_text.construct(node)
        except yaml.YAMLError as error:
            self._add(node.start_mark.line + 1, loc, f"not valid YAML: {getattr(error, 'problem', error)}")
            return empty
        return node

    def _add(self, line: int, loc: Loc, message: str) -> None:
        self.problems.append(Problem(self._path, line, ".".join(map(str, loc)), message))


def as_written(node: yaml.ScalarNode) -> str:
    """What YAML makes of a word that was meant as a text, and how to write it."""
    word, kind = str(node.value), node.tag.rpartition(":")[2]
    if kind == "bool" and word.lower() in ("yes", "no"):
        return f"yes and no are true and false in YAML: write '{word}'"
    names = {"bool": "a truth value", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
    return f"{word or 'an empty key'} is {names.get(kind, f'of the type {kind}')} in YAML: write '{word}'"


def scalar_at(root: yaml.Node | None, loc: Loc) -> yaml.ScalarNode | None:
    """The plain value at a place; None where there is none."""
    node = root
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return node if isinstance(node, yaml.ScalarNode) else None
