"""``treeagent models``: list the named models and download them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Protocol

import typer

from ..errors import UnknownNameError
from .arguments import say

app = typer.Typer(no_args_is_help=True, help="List the named models, and download one.")


class ModelEntry(Protocol):
    """A named model."""

    name: str
    what: str
    """A description in a few words."""
    size: str
    licence: str

    @property
    def available(self) -> bool:
        """Whether it can be loaded without a download."""


class ModelProvider(Protocol):
    """Interface of an entry point of the group ``treeagent.models``: a module or object with these functions."""

    def list_models(self) -> Sequence[ModelEntry]:
        """All models of this provider."""

    def fetch(self, name: str, progress: Callable[[str], None]) -> Path:
        """Download a model and return its path. Raises ModelError, or UnknownNameError when it cannot be fetched."""


def _providers() -> list[ModelProvider]:
    entries = metadata.entry_points(group="treeagent.models")
    return [entry.load() for entry in sorted(entries, key=lambda entry: entry.name)]


@app.command("list")
def list_() -> None:
    """List every named model with its availability, size and licence."""
    rows = [
        (model.name, "here" if model.available else "not here", model.size, model.licence, model.what)
        for provider in _providers()
        for model in provider.list_models()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    for row in rows:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    typer.echo("Also accepted: a folder, a .gguf file, or a Hugging Face hub id (owner/name).")


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A name from 'treeagent models list'.")]) -> None:
    """Download a model; afterwards ``--model NAME`` needs no network."""
    providers = _providers()
    for provider in providers:
        if any(model.name == name for model in provider.list_models()):
            typer.echo(provider.fetch(name, say))
            return
    raise UnknownNameError("model", name, (model.name for provider in providers for model in provider.list_models()))
