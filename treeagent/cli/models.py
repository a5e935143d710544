"""``treeagent models``: the models that can be named, and how to get the ones that are not here yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Protocol

import typer

from ..errors import UnknownNameError
from .arguments import say

app = typer.Typer(no_args_is_help=True, help="List the models that have a name, and fetch one.")


class ModelEntry(Protocol):
    """A model that can be named."""

    name: str
    what: str
    """What it is, in a few words."""
    size: str
    licence: str

    @property
    def available(self) -> bool:
        """Whether it can be loaded now."""


class ModelProvider(Protocol):
    """What an entry point of the group ``treeagent.models`` names: a module, or an object, with these two functions."""

    def list_models(self) -> Sequence[ModelEntry]:
        """Every model it knows."""

    def fetch(self, name: str, progress: Callable[[str], None]) -> Path:
        """Put a model on this machine. Raises ModelError, or UnknownNameError when it cannot be fetched."""


def _shops() -> list[ModelProvider]:
    entries = metadata.entry_points(group="treeagent.models")
    return [entry.load() for entry in sorted(entries, key=lambda entry: entry.name)]


@app.command("list")
def list_() -> None:
    """Every model with a name, whether it is on this machine, its size and its licence."""
    rows = [
        (model.name, "here" if model.available else "not here", model.size, model.licence, model.what)
        for shop in _shops()
        for model in shop.list_models()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    for row in rows:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    typer.echo("Also accepted: a folder, a .gguf file, or a Hugging Face hub id (owner/name).")


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A name from 'treeagent models list'.")]) -> None:
    """Download a model, once; afterwards ``--model NAME`` needs no network."""
    shops = _shops()
    for shop in shops:
        if any(model.name == name for model in shop.list_models()):
            typer.echo(shop.fetch(name, say))
            return
    raise UnknownNameError("model", name, (model.name for shop in shops for model in shop.list_models()))
