"""The command ``treeagent``. Heavy modules are imported only by the commands that need them."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import BackendError, ConfigError, InputError, PluginError, TreeagentError
from ..stop_signals import STOP_SIGNALS, interrupt
from . import anytime, compare, export, merge, models, plugins, serve, solve, tasks, view
from . import eval as eval_command
from .arguments import FAULT, INTERRUPTED, NO_OUTPUT, PLUGIN_FAILED, SOLVED, WRONG, check_words, say
from .plugin_commands import extra_commands
from .streams import OutputError, guarded_streams


class _Group(TyperGroup):
    """Adds the commands of plug-ins, and turns every TreeagentError into a message and an exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in extra_commands().items():
            self.commands.setdefault(name, command)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands as plain text: the import of rich takes 0.1 s."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the first paragraph of its help, uncut."""
        paragraphs = {name: (command.help or "").split("\n\n")[0] for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join(text.split())) for name, text in paragraphs.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line. Raises a usage error for one that is not UTF-8 text."""
        try:
            check_words(args)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with the documented code instead of a TreeagentError."""
        before = STOP_SIGNALS.first
        try:
            return super().invoke(ctx)
        except TreeagentError as error:
            if isinstance(error, ConfigError) and STOP_SIGNALS.first not in (None, before):
                # a library has caught the interrupt while it was imported, and failed in another way
                say("Interrupted.")
                raise typer.Exit(INTERRUPTED) from error
            if isinstance(error, OutputError):
                _say_context(error)
            say(f"Error: {error}")
            raise typer.Exit(_code(error)) from error
        except KeyboardInterrupt as error:
            say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from error
        except (EOFError, BrokenPipeError) as error:  # click would exit with 1, which means "no answer"
            raise RuntimeError(f"unexpected {type(error).__name__}") from error
        except OSError as error:  # of a path that was given: too long, not permitted, a folder in the place of a file
            if not isinstance(error.filename, str | bytes | os.PathLike):
                raise
            name = os.fsdecode(error.filename)
            name = name if len(name) <= 200 else f"{name[:200]}..."
            say(f"Error: cannot use {name!r}: {error.strerror}")
            raise typer.Exit(WRONG) from error


def _code(error: TreeagentError) -> int:
    if isinstance(error, OutputError):
        return NO_OUTPUT
    return PLUGIN_FAILED if isinstance(error, BackendError | PluginError) else WRONG


def _say_context(error: BaseException) -> None:
    """Print the error whose result could not be printed."""
    cause = error.__context__
    while cause is not None:
        if isinstance(cause, TreeagentError) and not isinstance(cause, OutputError):
            say(f"Error: {cause}")
            return
        cause = cause.__context__


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
app.command()(merge.merge)
app.command()(anytime.anytime)
app.command()(export.export)
app.command()(view.view)
app.command()(serve.serve)
app.add_typer(tasks.app, name="tasks")
app.add_typer(models.app, name="models")
app.command("plugins")(plugins.plugins)


FULL_COLLECTION = 100
"""Collections of younger objects before one of all, which walks the objects of torch's modules, too: 0.1 s. Python's
own 10 gives a run of a few seconds several."""


def main() -> None:
    """Entry point of the console script."""
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION)
    with guarded_streams(), STOP_SIGNALS.handled(interrupt):
        code = _run()
    sys.exit(code)


def _run() -> int:
    """Run the command line; its exit code, documented in every case."""
    try:
        app()
        code = SOLVED
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else SOLVED if end.code is None else WRONG
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:  # noqa: BLE001  the last boundary: a crash must not look like an answer
        traceback.print_exc()
        say("This is a fault of treeagent. Please report it with the lines above and the command.")
        code = FAULT
    try:
        sys.stdout.flush()
    except OutputError as error:
        if code != NO_OUTPUT:
            say(f"Error: {error}")
        code = NO_OUTPUT
    return STOP_SIGNALS.exit_code if code == INTERRUPTED else code
