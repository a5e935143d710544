"""``treeagent solve`` and ``treeagent resume``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BackendError, JournalError, PluginError, TreeagentError
from ..jsonl import strict
from . import arguments
from .agent_options import AgentOptions
from .arguments import INTERRUPTED, SOLVED, UNSOLVED, say
from .inputs import read_inputs
from .option_groups import (
    BackendOptions,
    LimitOptions,
    ModelsOptions,
    OutputOptions,
    RunOptions,
    SearchOptions,
    TraceOptions,
    with_option_groups,
)

if TYPE_CHECKING:
    from ..display.progress import Progress
    from ..runtime.agent import Agent
    from ..runtime.result import Result

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in arguments.EXIT_CODES.items()) + "."


@with_option_groups
def solve(
    *,
    search: SearchOptions,
    backend: BackendOptions,
    models: ModelsOptions,
    input: arguments.Inputs = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="NAME=VALUE",
            help="A field of the input's data row, for a task that reads it (data.fields); JSON, or a text.",
        ),
    ] = None,
    run: RunOptions,
    limits: LimitOptions,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN.jsonl",
            help="Record the run, for resume, replay, export; several inputs write RUN.1.jsonl, RUN.2.jsonl ...",
        ),
    ] = None,
    fsync: arguments.Fsync = False,
    trace: TraceOptions,
    output: OutputOptions,
    live: arguments.Live = False,
) -> None:  # fmt: skip
    """Search for a solution of one or more inputs of a task.

    Ctrl-C, SIGTERM or SIGHUP stops the search and prints the best attempt. A second one ends the program at once.
    """
    options = AgentOptions(search, backend, models, run, limits, fsync=fsync)
    options.check()
    fields = arguments.row_fields(row)

    from .session import view

    inputs = read_inputs(options.load_task(), input)
    journals = _journal_paths(journal, len(inputs))
    progress = view(quiet=output.quiet, live=live)
    code = SOLVED
    with trace.tracing() as tracing:
        with progress:
            progress.begin(f"loading {backend.label}")
            agent = options.make_agent().with_tracing(tracing)
        for text, path in zip(inputs, journals, strict=True):
            how = {"journal": path, "row": fields}
            code = max(code, _search_and_print(agent, text, progress, how, as_json=output.as_json))
            if code == INTERRUPTED:
                break
    raise typer.Exit(code)


@with_option_groups
def resume(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="A journal written by 'solve --journal'.")],
    settings: arguments.Trusted = None,
    limits: LimitOptions,
    allow_code: arguments.AllowCode = False,
    fsync: arguments.Fsync = False,
    trace: TraceOptions,
    output: OutputOptions,
    live: arguments.Live = False,
) -> None:
    """Continue a run from its journal without repeating any request that the journal answers.

    New limits replace those of the run. A finished run prints its result again. An address or the name of a secret in
    the journal is used only if it is repeated with --set.
    """
    from ..runtime import journal
    from ..runtime.agent import Agent
    from .session import view

    budget = limits.budget(journal.recorded_run(run).budget.model_dump())
    trusted = arguments.pairs(settings, "--set")
    arguments.reach_local_code(allow_code=allow_code)
    progress = view(quiet=output.quiet, live=live)
    with trace.tracing() as tracing:
        with progress:
            progress.begin(f"loading the backend of {run}")
            agent, text = Agent.from_journal(run, trusted=trusted, budget=budget, allow_code=allow_code, fsync=fsync)
        how = {"journal": run, "resume": True}
        code = _search_and_print(agent.with_tracing(tracing), text, progress, how, as_json=output.as_json)
    raise typer.Exit(code)


def _journal_paths(journal: Path | None, count: int) -> list[Path | None]:
    """A file for each input. Raises JournalError, before a model is loaded, for one that exists or has no folder."""
    if journal is None:
        return [None] * count
    if not journal.name:
        raise JournalError(f"{journal} is no path of a file")
    paths = [journal]
    if count > 1:
        paths = [journal.with_name(f"{journal.stem}.{number}{journal.suffix}") for number in range(1, count + 1)]
    from .. import file_lock
    from ..runtime.journal import check_free

    with suppress(OSError):  # what the system refuses is told when the file is opened
        if not journal.parent.is_dir():
            raise JournalError(f"cannot write the journal {journal}: there is no folder {journal.parent}")
        for path in paths:
            if path.is_file():
                file_lock.close(file_lock.open_to_write(path, "journal", create=False))  # refused beside a writer
                check_free(path)
    return list(paths)


def _search_and_print(agent: Agent, text: str, progress: Progress, how: dict[str, Any], *, as_json: bool) -> int:
    """Run one search, print its result, and return its exit code; ``how`` is for :func:`.session.run`."""
    from ..runtime.factory import check_devices
    from .session import run

    journal = how["journal"]
    check_devices(agent.backends)
    try:
        with progress:
            progress.begin(f"searching {agent.task.name} {text}")
            result = run(agent, text, progress, **how)
    except TreeagentError as error:
        if error.result is not None and (as_json or error.result.usage.calls):  # else there is nothing to tell
            _print(agent, error.result, as_json=as_json)
        if error.result is not None and journal is not None and isinstance(error, BackendError | PluginError):
            say(f"The journal holds the finished requests; 'treeagent resume {journal}' tries again.")
        raise
    _print(agent, result, as_json=as_json)
    if result.ended == "interrupted":
        return INTERRUPTED
    unchecked = result.solved is None and agent.task.can_verify  # the check took longer than the search was given
    return UNSOLVED if result.answer is None or result.solved is False or unchecked else SOLVED


def _print(agent: Agent, result: Result, *, as_json: bool) -> None:
    from .metrics_text import headline
    from .session import report

    if as_json:
        typer.echo(strict(result.to_json()))
    else:
        typer.echo(report(agent.task.name, result, headline(result.engine, agent.backends)))
