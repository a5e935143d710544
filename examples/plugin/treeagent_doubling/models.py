"""The names that ``treeagent models list`` shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """One line of the list."""

    name: str
    what: str
    size: str
    licence: str
    available: bool = True


def list_models() -> Sequence[Model]:
    """Every model of this package."""
    return [Model("exact", "the rules of the task 'doubling', for the backend 'rules'", "no parameters", "MIT")]


def fetch(name: str, progress: Callable[[str], None]) -> Path:
    """The folder of a model; a real provider downloads it here."""
    progress(f"{name} is part of the package")
    return Path(__file__).parent
