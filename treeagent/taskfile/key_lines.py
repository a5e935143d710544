"""On which line of a task file each key stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import Problem

Loc = tuple[str | int, ...]
"""The keys that lead to a value."""
Lines = dict[Loc, int]
_BLOCK = "|"
"""Below a key whose value is a block scalar: the line before its first."""
_DEEPEST = 20  # the schema needs 4; an alias that contains itself never ends


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


def key_lines(node: yaml.Node | None, path: Path | None) -> tuple[Lines, list[Problem]]:
    """The line of every key, and a problem for each key given twice (YAML would drop the first in silence)."""
    lines: Lines = {}
    problems: list[Problem] = []

    def walk(node: yaml.Node, loc: Loc) -> None:
        inner: Loc
        if len(loc) > _DEEPEST:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*loc, str(key.value))
                if inner in lines:
                    message = f"the key is given twice; first on line {lines[inner]}"
                    problems.append(Problem(path, key.start_mark.line + 1, ".".join(map(str, inner)), message))
                block = (*inner, _BLOCK)
                lines[inner] = key.start_mark.line + 1
                if isinstance(value, yaml.ScalarNode) and value.style == "|":
                    lines[block] = value.start_mark.line + 1
                walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                inner = (*loc, index)
                lines[inner] = value.start_mark.line + 1
                walk(value, inner)

    if node is not None:
        walk(node, ())
    return lines, problems
