"""``treeagent export``: the tree of a recorded run as a picture or as data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from ..jsonl import strict
from .arguments import echo, say


class Format(str, Enum):
    """Output formats of a tree."""

    svg = "svg"
    mermaid = "mermaid"
    json = "json"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="A journal written by 'solve --journal'.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.svg,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file. Default: standard output.")
    ] = None,
    leaves: Annotated[
        int | None,
        typer.Option(min=0, help="svg: number of leaves per thought, best first. Default: as many as fit a page."),
    ] = None,
) -> None:
    """Write the tree of a run as SVG, Mermaid or JSON; of an incomplete run, the recorded part."""
    from ..runtime.journal import read
    from ..runtime.journal_tree import rebuild

    rebuilt = rebuild(read(run))
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
