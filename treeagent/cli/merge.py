"""``treeagent merge``: the shards of an evaluation as one evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..jsonl import strict
from . import arguments
from .arguments import PLUGIN_FAILED, SOLVED, echo, say

if TYPE_CHECKING:
    from ..evaluation.merge import Merged


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders that 'eval --shard K/N --out FOLDER' wrote.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder of the whole evaluation; shards may be added to it later."
        ),
    ],
    as_json: arguments.Json = False,
) -> None:
    """Join the shards of an evaluation: the result is a folder as 'eval' without --shard writes it.

    The folders must agree in all settings but the shard. The answers of a problem that is in two folders must be equal.
    Exit codes: 0 every problem was run; 3 some are missing or failed; 2 folders that do not belong together.
    """
    from ..evaluation.merge import merge as join
    from ..evaluation.summary import summary
    from . import eval_report
    from .metrics_text import backends

    repeats = join(folders, out)
    first = repeats[0]
    totals = [summary(each.outcomes, each.wanted) for each in repeats]
    if as_json:
        report = {"settings": first.settings, **totals[0].to_json(), "notes": _notes(repeats)}
        typer.echo(strict(report))
    else:
        name = f"{first.settings['task']}, {first.settings['search']['name']}"
        echo(eval_report.report("\n".join([name, *backends(first.settings)]), totals[0], None, {}))
        for number, (each, total) in enumerate(zip(repeats[1:], totals[1:], strict=True), 2):
            echo(f"repeat {number}, seed {each.settings['seed']}: {eval_report.accuracy(total)}")
    for note in _notes(repeats):
        say(note)
    complete = all(each.complete for each in repeats)
    say(f"wrote {out}: {len(first.outcomes)} of {first.wanted} problems")
    if not complete:
        say(
            "The same command adds what the folders have later; 'eval' without --shard runs the rest in the new folder."
        )
    raise typer.Exit(SOLVED if complete else PLUGIN_FAILED)


def _notes(repeats: list[Merged]) -> list[str]:
    """The notes of all repeats, each with its number from the second on."""
    return [
        note if number == 1 else f"repeat {number}: {note}"
        for number, each in enumerate(repeats, 1)
        for note in each.notes
    ]
