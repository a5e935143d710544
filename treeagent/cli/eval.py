"""``treeagent eval``: how well and how fast a search solves a data set."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import extras
from ..errors import ConfigError, JournalError
from . import arguments
from .arguments import BACKEND_FAILED, INTERRUPTED, SOLVED, say

if TYPE_CHECKING:
    from ..evaluation.run import Evaluation

FILE = "outcomes.jsonl"
"""In the evaluation's folder; the journals of its problems lie beside it."""


def evaluate(
    task: arguments.TaskName,
    search: arguments.SearchName = "bfs",
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="A registered backend, or module:Class.")
    ] = "transformers",
    model: arguments.ModelName = None,
    evaluator: arguments.EvaluatorName = None,
    evaluator_model: arguments.EvaluatorModel = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER",
            help="Keep outcomes and journals here; the same command goes on where it stopped. Else nothing is kept.",
        ),
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE",
            help="A data file to take problems from, or hf://datasets/OWNER/NAME/PATH; else the task's own.",
        ),
    ] = None,
    start: Annotated[int, typer.Option(min=0, metavar="N", help="Leave out the first N problems.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take N problems.")] = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Problems in flight at one time.")] = 16,
    max_errors: Annotated[
        int, typer.Option(min=1, metavar="N", help="Start no more problems when N have failed.")
    ] = 10,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Another evaluation to compare with, problem by problem.")
    ] = None,
    seed: arguments.Seed = 0,
    settings: arguments.Settings = None,
    variables: arguments.Variables = None,
    max_tokens: arguments.MaxTokens = None,
    max_calls: arguments.MaxCalls = None,
    max_nodes: arguments.MaxNodes = None,
    max_seconds: arguments.MaxSeconds = None,
    max_dollars: arguments.MaxDollars = None,
    no_legality: arguments.NoLegality = False,
    allow_code: arguments.AllowCode = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy, time, tokens, judgements.")
    ] = None,
    as_json: arguments.Json = False,
    quiet: arguments.Quiet = False,
) -> None:  # fmt: skip
    """Evaluate a search on a data set: accuracy with its interval, cost, time, and what the evaluator is worth.

    Limits are those of each problem. Exit codes: 0 every problem has been run; 3 some failed; 2 and 130 as for 'solve'.
    """
    limits = arguments.budget(
        calls=max_calls, tokens=max_tokens, seconds=max_seconds, nodes=max_nodes, dollars=max_dollars
    )
    options, given = arguments.pairs(settings, "--set"), arguments.pairs(variables, "--var")
    arguments.reach_local_code(search, backend, evaluator, allow_code=allow_code)
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: expected the name of a PNG file, such as {plot.stem or 'accuracy'}.png")
    if plot is not None:
        extras.require("option --plot", "matplotlib")
        arguments.check_writable(plot, "--plot")

    import tempfile

    from ..evaluation import outcomes
    from ..evaluation.run import Evaluation
    from ..evaluation.summary import compared, summary
    from ..runtime.agent import Agent
    from ..task import Task
    from ..taskfile import dataset
    from . import eval_report
    from .eval_run import run

    loaded = Task.load(task, variables=given, allow_code=allow_code)
    problems = dataset.load(loaded, start, None if limit is None else start + limit, data_file)
    other = None if against is None else outcomes.read(against / FILE)[1].values()
    agent = Agent(
        loaded, search, backend=backend, model=model, evaluator=evaluator, evaluator_model=evaluator_model,
        options=options, seed=seed, budget=limits, legality=not no_legality, allow_code=allow_code,
    )  # fmt: skip
    what = {
        **agent.settings, "seed": seed, "budget": asdict(limits),
        "task": loaded.name, "task_text": loaded.digest,
        "data": {"rows": [row.number for row in problems.rows], "digest": problems.digest},
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="treeagent-eval-")))
        journals = folder / "journals"
        if not (folder / FILE).exists() and journals.is_dir() and any(journals.iterdir()):
            raise JournalError(
                f"{journals} holds journals, but {folder / FILE} is gone: they may be of another evaluation. Give "
                "another folder with --out, or remove this one."
            )
        kept = outcomes.Outcomes(folder / FILE, what)
        stack.callback(kept.close)
        work = Evaluation(agent, problems, kept, journals, at_once, max_errors)
        seconds, engine, interrupted = run(work, quiet=quiet)
    wanted = {row.number for row in problems.rows}
    found = [outcome for number, outcome in sorted(kept.known.items()) if number in wanted]
    numbers = summary(found, len(wanted))
    title = f"{loaded.name}, {search}, {agent.backend.name} {agent.backend.model or ''}".rstrip()
    pair = None if other is None else compared(found, other)
    if as_json:
        told: dict[str, Any] = {"settings": what, **numbers.to_json()}
        told |= {"at_once": at_once, "seconds": seconds, "engine": engine}
        told["against"] = None if pair is None else {"folder": str(against), **asdict(pair)}
        typer.echo(json.dumps(told))
    else:
        typer.echo(eval_report.report(title, numbers, seconds, engine))
        if against is not None:
            typer.echo(eval_report.against(pair, str(out or "this run"), str(against)))
    if plot is not None:
        try:
            eval_report.draw(plot, title, found, numbers)
        except OSError as error:
            raise ConfigError(f"--plot: cannot write {plot}: {error.strerror}") from error
        say(f"wrote {plot}")
    _end(work, numbers.failed, found, out, interrupted=interrupted)


def _end(work: Evaluation, failed: int, found: list[Any], out: Path | None, *, interrupted: bool) -> None:
    """Say what is left, and leave with the code for it. Raises typer.Exit."""
    again = f"the same command goes on from {out}" if out is not None else "give --out to be able to go on"
    for outcome in [each for each in found if each.error is not None][:3]:
        say(f"problem {outcome.number} ({outcome.input}) failed: {outcome.error}")
    if interrupted:
        say(f"Interrupted: {len(found)} of {len(work.data.rows)} problems have been run; {again}.")
        raise typer.Exit(INTERRUPTED)
    if work.gave_up:
        say(f"Stopped after {work.failed} failures; {again}.")
    elif failed:
        say(f"{failed} problem(s) failed; {again} and tries them again.")
    raise typer.Exit(BACKEND_FAILED if failed else SOLVED)
