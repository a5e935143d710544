"""``treeagent export``: the tree of a recorded run as a picture, as data, or as training data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError, JournalError
from ..jsonl import strict
from .arguments import echo, say


class Format(str, Enum):
    """Output formats of a tree."""

    svg = "svg"
    mermaid = "mermaid"
    json = "json"
    preferences = "preferences"
    steps = "steps"


def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN.jsonl", help="A journal; for training data also a folder of 'eval --out'."),
    ],
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.svg,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output file; training data: JSON Lines, or .parquet. Default: standard output."
        ),
    ] = None,
    leaves: Annotated[
        int | None,
        typer.Option(min=0, help="svg: number of leaves per thought, best first. Default: as many as fit a page."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="steps: value from which a step is right. Default: verdicts alone tell."),
    ] = None,
) -> None:
    """Write the tree of a run as SVG, Mermaid or JSON, or as training data; of an incomplete run, the recorded part."""
    if format in (Format.preferences, Format.steps):
        _training_data(run, format, output, threshold)
        return
    from ..runtime.journal import read
    from ..runtime.journal_tree import rebuild

    events = read(run)
    if not events:
        raise JournalError(f"{run}: there is nothing to export; the journal holds no whole line")
    rebuilt = rebuild(events)
    if format is Format.json:
        text = strict(rebuilt.to_json(), indent=1) + "\n"
    elif format is Format.mermaid:
        text = rebuilt.tree.to_mermaid(rebuilt.solution)
    else:
        from ..display.svg import draw

        text = draw(rebuilt.tree, rebuilt.solution, solved=rebuilt.solved, leaves=leaves)
    if output is None:
        echo(text, newline=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    say(f"wrote {output}: {len(rebuilt.tree) - 1} thoughts")


def _training_data(run: Path, format: Format, output: Path | None, threshold: float | None) -> None:
    """Write the pairs or the paths of one journal, or of all journals of an evaluation."""
    from ..runtime import training_rows
    from ..runtime.journal import read
    from ..runtime.training_data import labelled_steps, preferences

    training_rows.check_output(output)
    journals = _journals(run)
    rows: list[dict[str, Any]] = []
    for journal in journals:
        events = read(journal)
        rows += preferences(events) if format is Format.preferences else labelled_steps(events, threshold)
    if output is None:
        echo(training_rows.as_json_lines(rows), newline=False)
        return
    training_rows.write(rows, output)
    say(f"wrote {output}: {len(rows):,} rows of {len(journals):,} journal(s)")


def _journals(run: Path) -> list[Path]:
    """The journal, or those of an evaluation's folder, its repeats included. Raises ConfigError."""
    if not run.is_dir():
        return [run]
    from ..evaluation.run import JOURNALS, REPEATS

    folders = [run, *sorted((run / REPEATS).glob("*"))]
    journals = [path for folder in folders for path in sorted((folder / JOURNALS).glob("*.jsonl"))]
    if not journals:
        raise ConfigError(f"{run} holds no journals: expected a journal, or a folder that 'eval --out' wrote")
    return journals
