"""``treeagent view``: one run, or two side by side, as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..display.text import printable
from ..errors import ConfigError, JournalError
from .arguments import say


def view(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A journal written by 'solve --journal', or the folder of an 'eval --out'."
        ),
    ],
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="OTHER", help="A second journal, shown beside the first, or another evaluation to compare with."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            metavar="PAGE.html",
            help="Path of the page. Default: RUN.html beside the journal, or outcomes.html in the folder.",
        ),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Of a folder: write the page of every problem too, and link it.")
    ] = False,
    browse: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write an HTML page that shows a run: its tree, every prompt, reply and judgement, and the growth of the search.

    Of the folder of an evaluation it shows all problems: a table to filter and sort, a summary with intervals, and
    each problem's tree in outline.
    The page needs no server and no network, and shows the output of the model as text only.
    Of a journal that is incomplete or in progress it shows the recorded part.
    """
    if run.is_dir():
        target, counts = _view_folder(run, other, output, pages=pages)
    elif other is not None and other.is_dir():
        raise ConfigError(f"{other} is a folder and {run} is a journal: give two of a kind")
    elif pages:
        raise ConfigError("--pages: only with the folder of an evaluation")
    else:
        target, counts = _view_runs([path for path in (run, other) if path is not None], output)
    typer.echo(printable(f"wrote {target}: {counts}"))
    if browse and typer.launch(target.resolve().as_uri()) != 0:
        say(f"No browser could be started; open {target} yourself.")


def _view_runs(journals: list[Path], output: Path | None) -> tuple[Path, str]:
    """Write the page of one run or two; returns its path, and what it shows. Raises ConfigError and JournalError."""
    from ..runtime.journal import read
    from ..viewer.page import page
    from ..viewer.run_data import run_data

    if output is None and not journals[0].name:
        raise ConfigError(f"{journals[0]} is no journal: give the path of a file")
    target = output or journals[0].with_suffix(".html")
    if target.exists() and any(target.samefile(path) for path in journals if path.exists()):
        raise ConfigError(f"{target} is a journal: give the page another name with --out")
    runs = [run_data(read(path), path.name) for path in journals]
    _check_free(target, output)
    _write(target, page(runs))
    return target, " and ".join(f"{len(data.rebuilt.tree) - 1} thoughts" for data in runs)


def _view_folder(folder: Path, other: Path | None, output: Path | None, *, pages: bool) -> tuple[Path, str]:
    """Write the page over all problems; returns its path, and what it shows. Raises ConfigError and JournalError."""
    from ..evaluation.run import FILE
    from ..viewer.evaluation_page import EvaluationFolder, evaluation_page, journals_of

    if other is not None and not other.is_dir():
        raise ConfigError(f"{folder} is a folder and {other} is none: give two of a kind")
    evaluations = [EvaluationFolder.read(path) for path in (folder, other) if path is not None]
    target = output or (folder / FILE).with_suffix(".html")
    if target.exists() and any(target.samefile(each.path / FILE) for each in evaluations):
        raise ConfigError(f"{target} has the outcomes: give the page another name with --out")
    _check_free(target, output)
    written = 0
    for journal in journals_of(evaluations[0]) if pages else ():
        try:
            _view_runs([journal], None)
            written += 1
        except JournalError as error:  # the table names it too
            say(str(error))
    _write(target, evaluation_page(evaluations[0], target, *evaluations[1:]))
    return target, f"{len(evaluations[0].outcomes)} problems" + (f", {written} pages of problems" if pages else "")


def _check_free(target: Path, output: Path | None) -> None:
    """Raise ConfigError where the default name of a page is that of another file."""
    from ..viewer.page import GENERATOR

    if output is None and target.exists() and GENERATOR not in _start(target):
        raise ConfigError(f"{target} exists and is no page of this command: give the page another name with --out")


def _write(target: Path, text: str) -> None:
    try:
        target.write_text(text, encoding="ascii", newline="\n")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from error


def _start(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2000)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
