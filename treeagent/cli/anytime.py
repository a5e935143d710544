"""``treeagent anytime``: is the tree worth it? Several searches at equal tokens, from one recorded run of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError
from ..jsonl import strict
from . import arguments
from .arguments import INTERRUPTED, PLUGIN_FAILED, SOLVED, echo, say
from .option_groups import BackendOptions, LimitOptions, OutputOptions, RunOptions, with_option_groups
from .output_files import check_plot

if TYPE_CHECKING:
    from ..evaluation.run import Evaluation
    from ..runtime.agent import Agent
    from ..runtime.budget import Budget
    from ..task import Task
    from ..taskfile.dataset import Data


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
    specs = [SearchSpec.parse(spec) for spec in search]
    titles = {spec.title for spec in specs}
    if len(titles) < 2 or len(titles) < len(specs):
        raise ConfigError("--search: expected two or more different searches, such as -s 'cot-sc k=20' -s bfs")
    if str(run.speculate) not in ("auto", "0"):
        raise ConfigError("--speculate: no request is sent early here, for equal tokens; leave it out")
    budget = limits.budget()
    names = (*(spec.name for spec in specs), backend.backend, evaluator, backend.evaluator_backend)
    arguments.reach_local_code(*names, allow_code=run.allow_code)
    if plot is not None:
        check_plot(plot, "accuracy")

    from ..evaluation.equal_tokens import compare, curves_of
    from ..evaluation.run import JOURNALS
    from ..taskfile import dataset
    from .anytime_report import draw, report

    loaded = run.load_task(task)
    problems = dataset.load(loaded, 0, limit, data_file)
    agents = _make_agents(specs, loaded, evaluator, backend, run, budget)
    curves, failed = [], 0
    for spec, agent in zip(specs, agents, strict=True):
        place = out / re.sub(r"[^\w.=-]+", "-", spec.title)
        evaluation, interrupted = _evaluate(spec.title, agent, problems, place, at_once, quiet=output.quiet)
        if interrupted:
            say(f"Interrupted; the same command continues from {out}.")
            raise typer.Exit(INTERRUPTED)
        failed += sum(outcome.error is not None for outcome in evaluation.done_outcomes)
        curves.append(curves_of(spec.title, agent, problems, evaluation.done_outcomes, place / JOURNALS))
    result = compare(curves, budget.tokens)
    if plot is not None:
        draw(plot, loaded.name, result)
        say(f"wrote {plot}")
    typer.echo(strict({"task": loaded.name, "failed": failed, **result.to_json()})) if output.as_json else echo(
        report(loaded.name, result, failed, len(problems.rows))
    )
    raise typer.Exit(PLUGIN_FAILED if failed else SOLVED)


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A search as ``--search`` gives it."""

    title: str
    name: str
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> SearchSpec:
        """From ``NAME OPTION=VALUE ...``. Raises ConfigError."""
        words = text.split()
        if not words:
            raise ConfigError("--search: the name of a search is missing")
        return cls(" ".join(words), words[0], arguments.pairs(words[1:], f"--search {words[0]!r}:"))


def _make_agents(
    specs: Sequence[SearchSpec], task: Task, evaluator: str | None, backend: BackendOptions, run: RunOptions,
    budget: Budget,
) -> list[Agent]:  # fmt: skip
    """An agent for each search, all before the first request, so that errors appear early. Raises ConfigError."""
    from .. import registry
    from ..runtime.agent import Agent

    agents: list[Agent] = []
    for spec in specs:
        judged = registry.load("search", spec.name, allow_code=run.allow_code).evaluates
        shared = _shared(agents, backend, {**run.option_values(), **spec.options}, judged=judged)
        agents.append(
            Agent(
                task, spec.name, evaluator=evaluator if judged else None, seed=run.seed, budget=budget,
                legality=not run.no_legality, allow_code=run.allow_code, speculate=0, **shared,
            )
        )  # fmt: skip
    return agents


def _evaluate(
    title: str, agent: Agent, problems: Data, folder: Path, at_once: int, *, quiet: bool
) -> tuple[Evaluation, bool]:
    """Run or continue the evaluation of an agent in a folder; also, whether it was interrupted."""
    from ..evaluation.run import JOURNALS, Evaluation, open_outcomes, settings_of
    from .eval_progress import eval_progress

    agent.find_models()
    settings = settings_of(agent, problems, seed=agent.seed, budget=agent.budget)
    with closing(open_outcomes(folder, settings, problems.digest_of)) as store:
        evaluation = Evaluation(agent, problems, folder / JOURNALS, store, at_once)
        quiet, known = quiet or not evaluation.open_rows, list(store.known.values())
        with eval_progress(len(problems.rows), known, quiet=quiet, what=f"{title}: ") as on_outcome:
            return evaluation, evaluation.execute(on_outcome).interrupted


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
