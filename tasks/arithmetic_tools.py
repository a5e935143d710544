"""Arithmetic with a tool: a step is a line of Python, and what it prints is part of the state."""

from __future__ import annotations

import ast

from treeagent.checker import Checker

from .python_tool import PythonTool

_START = "Code:"
_MODULES = {"bisect", "calendar", "collections", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
            "math", "operator", "random", "re", "statistics", "string"}  # fmt: skip
"""What a calculation may import."""
_REFUSED = {"open", "input", "exec", "eval", "compile", "getattr", "setattr", "delattr", "globals", "locals", "vars",
            "breakpoint", "help", "exit", "quit"}  # fmt: skip
_LONGEST = 2000
"""Characters of a program."""


class ArithmeticTools(Checker):
    """Registered as ``arithmetic_tools``."""

    tool = PythonTool()

    def legal(self, parent: str, text: str, state: str) -> bool:
        """Whether a line of code is one, and keeps to calculation: no files, no processes, nothing private."""
        code = program(text)
        return code is None or calculates(code)

    async def observe(self, parent: str, text: str) -> str | None:
        """What the program of a step prints; None for a step without one. Raises ToolError at a limit."""
        code = program(text)
        return None if code is None else (await self.tool.run(code) or "(nothing was printed)")


def program(text: str) -> str | None:
    """The program of a step ``Code: ...``; None for another step."""
    return text[len(_START) :].strip() if text.startswith(_START) else None


def calculates(code: str) -> bool:
    """Whether a program names nothing but calculation; a first fence before the limits of the tool."""
    if len(code) > _LONGEST:
        return False
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and not {alias.name for alias in node.names} <= _MODULES:
            return False
        if isinstance(node, ast.ImportFrom) and (node.level or node.module not in _MODULES):
            return False
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return False
        if isinstance(node, ast.Name) and (node.id in _REFUSED or node.id.startswith("__")):
            return False
    return bool(tree.body)
