"""``treeagent eval``: how well and how fast a search solves a data set."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from ..jsonl import strict
from . import arguments
from .agent_options import AgentOptions
from .arguments import INTERRUPTED, PLUGIN_FAILED, SOLVED, say
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
from .output_files import check_plot

if TYPE_CHECKING:
    from ..evaluation.outcomes import Outcome
    from ..evaluation.run import Evaluation


@with_option_groups
def evaluate(
    *,
    search: SearchOptions,
    backend: BackendOptions,
    models: ModelsOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER",
            help="Keep outcomes and journals here; the same command continues there. Default: keep nothing.",
        ),
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE",
            help="A data file with problems, or hf://datasets/OWNER/NAME/PATH. Default: the task's own data.",
        ),
    ] = None,
    start: Annotated[int, typer.Option(min=0, metavar="N", help="Skip the first N problems.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take N problems.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N", help="Of these, those whose number leaves K when divided by N; K from 0. 'merge' joins them."
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Run every problem N times, with N seeds from --seed on: pass@k, maj@k."),
    ] = 1,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Problems that run at one time.")] = 16,
    order: arguments.Order = "arrival",
    workers: Annotated[
        str | None,
        typer.Option(metavar="ray[:ADDRESS]", help="Solve in replicas on Ray: here, or on the cluster at ADDRESS."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, metavar="N", help="Replicas of --workers.")] = 1,
    max_errors: Annotated[
        int, typer.Option(min=1, metavar="N", help="Start no further problem after N failures.")
    ] = 10,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Another evaluation to compare with, problem by problem.")
    ] = None,
    run: RunOptions,
    limits: LimitOptions,
    fsync: arguments.Fsync = False,
    trace: TraceOptions,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Plot the accuracy, and beside it tokens, seconds, values and repeats."),
    ] = None,
    output: OutputOptions,
) -> None:  # fmt: skip
    """Evaluate a search on a data set: accuracy with its interval, cost, time, and the quality of the evaluator.

    Limits apply to each problem. Exit codes: 0 every problem was run; 3 some failed; the others as for 'solve'.
    """
    if workers is None and replicas > 1:
        raise ConfigError("--replicas: only with --workers ray, which starts them")
    if workers is not None and (trace.otel or trace.otel_content):
        raise ConfigError("--otel: not with --workers, whose searches run in other processes")
    from ..evaluation.shards import Shard

    part = None if shard is None else Shard.parse(shard)
    options = AgentOptions(search, backend, models, run, limits, order, fsync)
    options.check()
    if plot is not None:
        check_plot(plot, "accuracy")

    from ..evaluation.outcomes import read
    from ..evaluation.run import FILE, recorded_backend
    from ..taskfile import dataset
    from . import ray_pool
    from .eval_output import EvalOutput
    from .eval_session import EvalPlan, EvalSession

    task = options.load_task()
    everything = dataset.load(task, start, None if limit is None else start + limit, data_file)
    problems = everything if part is None else part.part(everything)
    others = None if against is None else list(read(against / FILE)[1].values())
    chosen = backend.backend or recorded_backend(out)
    options = replace(options, backend=replace(backend, backend=chosen))
    agent = options.make_agent(task)
    if workers is None:
        agent.find_models()
    else:
        ray_pool.find_models(agent)
    plan = EvalPlan(repeats, at_once, max_errors, workers, replicas, output.quiet)
    with _folder(out) as folder, trace.tracing() as tracing:
        agent = agent.with_tracing(tracing)
        session = EvalSession(options, agent, everything, problems, None if part is None else str(part), plan)
        done = session.run(folder)
    evaluations, runs = [evaluation for evaluation, _ in done], [this_run for _, this_run in done]
    shown = EvalOutput(agent, search.search, problems, evaluations, runs, others, not run.no_legality)
    if plot is not None:
        shown.draw(plot)
    if output.as_json:
        typer.echo(strict(shown.to_json(against, repeated=repeats > 1)))
    else:
        portion = None if part is None else f"shard {part}: {len(problems.rows)} of {len(everything.rows)} problems"
        shown.tell(out, against, portion, repeated=repeats > 1)
    _exit(evaluations[-1], [each for one in evaluations for each in one.done_outcomes], out,
          interrupted=runs[-1].interrupted)  # fmt: skip


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder of the evaluation; a temporary one where the user names none."""
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="treeagent-eval-") as folder:
        yield Path(folder)


def _exit(evaluation: Evaluation, outcomes: list[Outcome], out: Path | None, *, interrupted: bool) -> None:
    """Print what remains to be done. Raises typer.Exit with the exit code."""
    again = f"the same command continues from {out}" if out is not None else "give --out to continue a run later"
    failures = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failures[:3]:
        say(f"problem {outcome.number} ({outcome.input}) failed: {outcome.error}")
    if interrupted:
        say(f"Interrupted: {len(outcomes)} of {len(evaluation.data.rows)} problems were run; {again}.")
        raise typer.Exit(INTERRUPTED)
    if evaluation.gave_up:
        say(f"Stopped after {evaluation.failed} failures; {again}.")
    elif failures:
        say(f"{len(failures)} problem(s) failed; {again} and tries them again.")
    raise typer.Exit(PLUGIN_FAILED if failures else SOLVED)
