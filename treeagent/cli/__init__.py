"""The command ``treeagent``. Heavy modules are imported only by the commands that need them."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import BackendError, InputError, TreeagentError
from . import compare, export, models, plugins, solve, tasks, view
from . import eval as eval_command
from .arguments import BACKEND_FAILED, INTERRUPTED, WRONG, check_words, say
from .plugin_commands import extra_commands


class _Group(TyperGroup):
    """Adds the commands of plug-ins, and turns every TreeagentError into a message and an exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in extra_commands().items():
            self.commands.setdefault(name, command)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line. Raises a usage error for one that is not UTF-8 text."""
        try:
            check_words(args)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with the documented code instead of a TreeagentError."""
        try:
            return super().invoke(ctx)
        except TreeagentError as error:
            say(f"Error: {error}")
            raise typer.Exit(BACKEND_FAILED if isinstance(error, BackendError) else WRONG) from error
        except KeyboardInterrupt as error:
            say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # a traceback indicates a bug, and a plain one is easier to report
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"treeagent {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Language models that reason by tree search, fast."""


app.command(epilog=solve.EPILOG)(solve.solve)
app.command()(solve.resume)
app.command()(compare.compare)
app.command("eval")(eval_command.evaluate)
app.command()(export.export)
app.command()(view.view)
app.add_typer(tasks.app, name="tasks")
app.add_typer(models.app, name="models")
app.command("plugins")(plugins.plugins)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # print a result even where the terminal lacks a character
    app()
