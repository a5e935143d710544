"""``treeagent anytime``: is the tree worth it? Several searches at equal tokens, from one recorded run of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import extras
from ..errors import ConfigError
from ..jsonl import strict
from . import arguments
from .arguments import INTERRUPTED, PLUGIN_FAILED, SOLVED, echo, say
from .option_groups import BackendOptions, LimitOptions, OutputOptions, RunOptions, with_option_groups

if TYPE_CHECKING:
    from ..runtime.agent import Agent


@with_option_groups
def anytime(
    *,
    task: arguments.TaskName,
    search: Annotated[
        list[str],
        typer.Option(
            "--search", "-s", metavar="'NAME OPTION=VALUE ...'",
            help="A search with its options, twice or more: -s 'cot-sc k=20' -s bfs. The others are compared with "
            "the first.",
        ),
    ],
    evaluator: arguments.EvaluatorName = None,
    backend: BackendOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the evaluations, one for each search.")
    ],
    data_file: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="A data file. Default: the task's own data.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take the first N problems.")] = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Problems that run at one time.")] = 16,
    run: RunOptions,
    limits: LimitOptions,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot accuracy over tokens.")] = None,
    output: OutputOptions,
) -> None:  # fmt: skip
    """Compare searches at equal tokens, the judge's included: a table, a paired test and anytime curves.

    Every problem is run once by each search, and the same command continues; what a search would have answered with
    fewer tokens is read from its journal. --max-tokens is the budget of a problem.
    """
    specs = [_parts(spec) for spec in search]
    if len({name for name, _, _ in specs}) < 2 or len({name for name, _, _ in specs}) < len(specs):
        raise ConfigError("--search: expected two or more different searches, such as -s 'cot-sc k=20' -s bfs")
    if str(run.speculate) not in ("auto", "0"):
        raise ConfigError("--speculate: no request is sent early here, for equal tokens; leave it out")
    budget, options = limits.budget(), run.option_values()
    names = (*(name for _, name, _ in specs), backend.backend, evaluator, backend.evaluator_backend)
    arguments.reach_local_code(*names, allow_code=run.allow_code)
    if plot is not None:
        arguments.check_plot(plot, "accuracy")
        extras.require("option --plot", "matplotlib")
        arguments.check_writable(plot, "--plot")

    from .. import registry
    from ..evaluation.equal_tokens import compare, curves_of
    from ..evaluation.run import JOURNALS, Evaluation, open_outcomes, settings_of
    from ..runtime.agent import Agent
    from ..taskfile import dataset
    from .anytime_report import draw, report
    from .eval_progress import eval_progress

    loaded = run.load_task(task)
    problems = dataset.load(loaded, 0, limit, data_file)
    agents: list[Agent] = []
    for _, name, own in specs:  # all of them before the first request, so that errors appear early
        judged = registry.load("search", name, allow_code=run.allow_code).evaluates
        agents.append(
            Agent(
                loaded, name, evaluator=evaluator if judged else None, seed=run.seed, budget=budget,
                legality=not run.no_legality, allow_code=run.allow_code, speculate=0,
                **_shared(agents, backend, {**options, **own}, judged=judged),
            )
        )  # fmt: skip
    curves, failed = [], 0
    for (title, _, _), agent in zip(specs, agents, strict=True):
        agent.find_models()
        place = out / re.sub(r"[^\w.=-]+", "-", title)
        settings = settings_of(agent, problems, seed=run.seed, budget=budget)
        with closing(open_outcomes(place, settings, problems.digest_of)) as store:
            evaluation = Evaluation(agent, problems, place / JOURNALS, store, at_once)
            quiet = output.quiet or not evaluation.open_rows
            known = list(store.known.values())
            with eval_progress(len(problems.rows), known, quiet=quiet, what=f"{title}: ") as on_outcome:
                this_run = evaluation.execute(on_outcome)
        if this_run.interrupted:
            say(f"Interrupted; the same command continues from {out}.")
            raise typer.Exit(INTERRUPTED)
        failed += sum(outcome.error is not None for outcome in evaluation.done_outcomes)
        curves.append(curves_of(title, agent, problems, evaluation.done_outcomes, place / JOURNALS))
    result = compare(curves, budget.tokens)
    if plot is not None:
        draw(plot, loaded.name, result)
        say(f"wrote {plot}")
    typer.echo(strict({"task": loaded.name, "failed": failed, **result.to_json()})) if output.as_json else echo(
        report(loaded.name, result, failed, len(problems.rows))
    )
    raise typer.Exit(PLUGIN_FAILED if failed else SOLVED)


def _parts(spec: str) -> tuple[str, str, dict[str, str]]:
    """The title, the name and the options of a search as it is given. Raises ConfigError."""
    words = spec.split()
    if not words:
        raise ConfigError("--search: the name of a search is missing")
    return " ".join(words), words[0], arguments.pairs(words[1:], f"--search {words[0]!r}:")


def _without(prefixes: tuple[str, ...], options: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if not name.startswith(prefixes)}


def _shared(
    agents: Sequence[Agent], backend: BackendOptions, options: dict[str, str], *, judged: bool
) -> dict[str, Any]:
    """Arguments of an agent that uses the backends of the agents before it, where these have opened them."""
    arguments: dict[str, Any] = {"backend": backend.backend, "model": backend.model}
    if agents:
        options = _without(("backend.",), options)
        arguments = {"backend": agents[0].backend}
    judging = next((agent.judging for agent in agents if agent.judging is not agent.backend), None)
    if not judged:
        options = _without(("evaluator.", "evaluator_backend."), options)
    elif judging is not None:
        options = _without(("evaluator_backend.",), options)
        arguments["evaluator_model"] = judging
    else:
        arguments |= {"evaluator_model": backend.evaluator_model, "evaluator_backend": backend.evaluator_backend}
    return {**arguments, "options": options}
