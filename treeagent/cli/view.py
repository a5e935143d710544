"""``treeagent view``: one run, or two side by side, as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..display.text import printable
from ..errors import ConfigError
from .arguments import say


def view(
    run: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="A journal written by 'solve --journal'.")],
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="OTHER.jsonl", help="A second journal, shown beside the first with the first difference."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            metavar="PAGE.html",
            help="Path of the page. Default: RUN.html beside the journal.",
        ),
    ] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write an HTML page that shows a run: its tree, every prompt, reply and judgement, and the growth of the search.

    The page needs no server and no network, and shows the output of the model as text only.
    Of a journal that is incomplete or in progress it shows the recorded part.
    """
    from ..runtime.journal import read
    from ..viewer.page import GENERATOR, page
    from ..viewer.run_data import run_data

    journals = [path for path in (run, other) if path is not None]
    if output is None and not run.name:
        raise ConfigError(f"{run} is no journal: give the path of a file")
    target = output or run.with_suffix(".html")
    if target.exists() and any(target.samefile(path) for path in journals if path.exists()):
        raise ConfigError(f"{target} is a journal: give the page another name with --out")
    runs = [run_data(read(path), path.name) for path in journals]
    if output is None and target.exists() and GENERATOR not in _start(target):
        raise ConfigError(f"{target} exists and is no page of this command: give the page another name with --out")
    try:
        target.write_text(page(runs), encoding="ascii", newline="\n")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from error
    counts = " and ".join(f"{len(data.rebuilt.tree) - 1} thoughts" for data in runs)
    typer.echo(printable(f"wrote {target}: {counts}"))
    if browse and typer.launch(target.resolve().as_uri()) != 0:
        say(f"No browser could be started; open {target} yourself.")


def _start(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2000)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
