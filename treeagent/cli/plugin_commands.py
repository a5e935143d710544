"""Commands of plug-ins (entry points ``treeagent.commands``), which are imported only when they run."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperCommand

from .. import registry


def extra_commands() -> dict[str, TyperCommand]:
    """A stand-in for each registered command."""
    return {name: Extra(registry.entries("command")[name]) for name in registry.names("command")}


class Extra(TyperCommand):
    """Stand-in for a command of a plug-in until it runs."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(entry.name, help=_summary(entry) or f"A command of {entry.module.split('.')[0]}.")

    def real(self) -> TyperCommand:
        """The command itself. Raises ConfigError when it cannot be imported."""
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(self.name)(registry.load("command", str(self.name)))
        return typer.main.get_command(app)  # type: ignore[return-value]

    def make_context(self, *words: Any, **more: Any) -> Any:
        """The context of the real command, which runs in place of this one. Raises ConfigError."""
        return self.real().make_context(*words, **more)


def _summary(entry: EntryPoint) -> str:
    """First line of the function's docstring, read from its source: an import may be slow or fail."""
    spec: Any = None
    path: Any = None
    parts = entry.module.split(".")
    try:
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            specs = (finder.find_spec(name, path) for finder in sys.meta_path)
            spec = next(candidate for candidate in specs if candidate is not None)
            path = spec.submodule_search_locations
        source = spec.loader.get_source(spec.name)
        functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
        return (ast.get_docstring(functions[entry.attr]) or "").split("\n", 1)[0]
    except (StopIteration, LookupError, AttributeError, TypeError, ValueError, OSError, ImportError, SyntaxError):
        return ""
