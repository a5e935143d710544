"""``treeagent solve`` and ``treeagent resume``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BackendError, JournalError
from . import arguments
from .arguments import INTERRUPTED, SOLVED, UNSOLVED, say

if TYPE_CHECKING:
    from ..display.progress import Progress
    from ..runtime.agent import Agent
    from ..runtime.result import Result

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in arguments.EXIT_CODES.items()) + "."


def solve(
    task: arguments.TaskName,
    search: arguments.SearchName = "bfs",
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="A registered backend, or module:Class.")
    ] = "transformers",
    model: arguments.ModelName = None,
    evaluator: arguments.EvaluatorName = None,
    evaluator_model: arguments.EvaluatorModel = None,
    input: arguments.Inputs = None,
    seed: arguments.Seed = 0,
    settings: arguments.Settings = None,
    variables: arguments.Variables = None,
    max_tokens: arguments.MaxTokens = None,
    max_calls: arguments.MaxCalls = None,
    max_nodes: arguments.MaxNodes = None,
    max_seconds: arguments.MaxSeconds = None,
    max_dollars: arguments.MaxDollars = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="RUN.jsonl", help="Record the run, for resume, replay, export; several get RUN.1.jsonl"),
    ] = None,
    no_legality: arguments.NoLegality = False,
    allow_code: arguments.AllowCode = False,
    as_json: arguments.Json = False,
    quiet: arguments.Quiet = False,
    live: arguments.Live = False,
) -> None:
    """Search for a solution of one or more inputs of a task.

    Ctrl-C stops the search and prints the best attempt; pressed again, it ends the program at once.
    """
    limits = arguments.budget(
        calls=max_calls, tokens=max_tokens, seconds=max_seconds, nodes=max_nodes, dollars=max_dollars
    )
    options, given = arguments.pairs(settings, "--set"), arguments.pairs(variables, "--var")
    arguments.reach_local_code(search, backend, evaluator, allow_code=allow_code)

    from ..runtime.agent import Agent
    from ..task import Task
    from .session import view

    inputs = arguments.read_inputs(Task.load(task, variables=given, allow_code=allow_code), input)
    journals = _journals(journal, len(inputs))
    shown = view(quiet=quiet, live=live)
    with shown:
        shown.begin(f"loading {backend} {model or ''}".rstrip())
        agent = Agent(
            task, search, backend=backend, model=model, evaluator=evaluator, evaluator_model=evaluator_model,
            options=options, variables=given, seed=seed, budget=limits, legality=not no_legality, allow_code=allow_code,
        )  # fmt: skip
    worst = SOLVED
    for text, file in zip(inputs, journals, strict=True):
        worst = max(worst, _show(agent, text, shown, journal=file, as_json=as_json))
        if worst == INTERRUPTED:
            break
    raise typer.Exit(worst)


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="A journal that 'solve --journal' has written.")],
    max_tokens: arguments.MaxTokens = None,
    max_calls: arguments.MaxCalls = None,
    max_nodes: arguments.MaxNodes = None,
    max_seconds: arguments.MaxSeconds = None,
    max_dollars: arguments.MaxDollars = None,
    allow_code: arguments.AllowCode = False,
    as_json: arguments.Json = False,
    quiet: arguments.Quiet = False,
    live: arguments.Live = False,
) -> None:
    """Continue a run from its journal, repeating no request that it holds an answer to.

    The limits are the run's own unless new ones are given. A finished run prints its result again.
    """
    from ..runtime import journal
    from ..runtime.agent import Agent
    from .session import view

    recorded = journal.recorded(journal.read(run))
    limits = arguments.budget(
        calls=max_calls, tokens=max_tokens, seconds=max_seconds, nodes=max_nodes, dollars=max_dollars,
        recorded=recorded.get("budget"),
    )  # fmt: skip
    named = recorded.get("settings", {})
    names = (str((named.get(part) or {}).get("name")) for part in ("search", "evaluator", "backend"))
    arguments.reach_local_code(*names, allow_code=allow_code)
    shown = view(quiet=quiet, live=live)
    with shown:
        shown.begin(f"loading what {run} names")
        agent, text = Agent.from_journal(run, budget=limits, allow_code=allow_code)
    raise typer.Exit(_show(agent, text, shown, journal=run, resume=True, as_json=as_json))


def _journals(journal: Path | None, count: int) -> list[Path | None]:
    """A file for each input. Raises JournalError now for one that could only be refused after the inputs before it."""
    if journal is None or count == 1:
        return [journal] * count
    files = [journal.with_name(f"{journal.stem}.{number}{journal.suffix}") for number in range(1, count + 1)]
    for file in files:
        if file.exists() and file.stat().st_size:
            raise JournalError(f"the journal {file} exists already; 'treeagent resume' continues it")
    return list(files)


def _show(
    agent: Agent, text: str, shown: Progress, *, journal: Path | None, resume: bool = False, as_json: bool
) -> int:
    """Run one search, print its result, and return its exit code."""
    from .session import run

    try:
        with shown:
            shown.begin(f"searching {agent.task.name} {text}")
            result = run(agent, text, shown, journal=journal, resume=resume)
    except (BackendError, JournalError) as error:
        if error.result is not None:
            _print(agent, error.result, as_json=as_json)
        if journal is not None and isinstance(error, BackendError):
            say(f"The journal keeps what was done; 'treeagent resume {journal}' tries again.")
        raise
    _print(agent, result, as_json=as_json)
    if result.ended == "interrupted":
        return INTERRUPTED
    return UNSOLVED if result.answer is None or result.solved is False else SOLVED


def _print(agent: Agent, result: Result, *, as_json: bool) -> None:
    from .session import report

    typer.echo(json.dumps(result.to_json()) if as_json else report(agent.task.name, result))
