"""``treeagent compare``: the same searches on several backends."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, UnknownNameError
from ..jsonl import strict
from . import arguments
from .arguments import INTERRUPTED, SOLVED, UNSOLVED, say
from .inputs import read_inputs
from .option_groups import OutputOptions, RunOptions, SearchOptions, TreeLimitOptions, with_option_groups
from .output_files import check_plot, check_writable

if TYPE_CHECKING:
    from ..backend import Backend
    from ..comparison.race import RaceResult
    from ..runtime.result import Result
    from ..task import Task
    from ..taskfile.dataset import Data, DataRow


@with_option_groups
def compare(
    *,
    backends: Annotated[
        str,
        typer.Option(
            "--backends", "-b", metavar="A,B",
            help="Two or more, each NAME[:MODEL] or module:Class[:MODEL]; e.g. transformers:mini,replay:run.jsonl. "
            "The first one is the reference. With --set speculate=0,auto each runs once for each value.",
        ),
    ],
    search: SearchOptions,
    model: arguments.ModelName = None,
    evaluator_model: arguments.EvaluatorModel = None,
    evaluator_backend: arguments.EvaluatorBackend = None,
    input: arguments.Inputs = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take the first N inputs of the task's data instead.")
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE",
            help="A data file with inputs, or hf://datasets/OWNER/NAME/PATH. Default: the task's own data.",
        ),
    ] = None,
    run: RunOptions,
    limits: TreeLimitOptions,
    repeat: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Time all searches N times, the backends in turn; 3 or more give an interval."
        ),
    ] = 1,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Keep each backend and its caches, after an untimed pass. Default: every repeat opens a fresh one.",
        ),
    ] = False,
    report_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Also write the output of --json to this file."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Plot the speed-ups over the first backend.")
    ] = None,
    output: OutputOptions,
) -> None:  # fmt: skip
    """Run the same searches on several backends; report whether the trees are equal and which backend is faster.

    Exit codes: 0 equal trees; 1 a difference, which is printed; the others as for 'solve'.
    """
    options = run.option_values()
    entries = _entries(backends, options.pop("speculate", run.speculate))
    names, variants = [name for name, _ in entries], dict(entries)
    code = (search.search, search.evaluator, evaluator_backend, *(spec for spec, _ in variants.values()))
    arguments.reach_local_code(*code, allow_code=run.allow_code)
    _check_files(report_file, plot, repeat)

    from ..comparison.race import Race
    from ..comparison.same_tree import ExchangeRecorder
    from ..runtime.agent import Agent
    from . import compare_report, session

    task = run.load_task(search.task)
    data = _read_data(task, input, limit, data_file)
    budget = limits.budget()
    search_options = {name: value for name, value in options.items() if not name.startswith("backend.")}
    backend_options = {
        name.removeprefix("backend."): value for name, value in options.items() if name not in search_options
    }

    ran: dict[str, tuple[Backend, ...]] = {}

    def enter(name: str) -> tuple[Agent, ExchangeRecorder]:
        spec, speculate = variants[name]
        backend = _open_backend(spec, model, backend_options)
        recorder = ExchangeRecorder(backend)
        agent = Agent(
            task, search.search, backend=recorder, evaluator=search.evaluator, evaluator_model=evaluator_model,
            evaluator_backend=evaluator_backend, options=search_options, seed=run.seed,
            budget=budget, legality=not run.no_legality, speculate=speculate,
        )  # fmt: skip
        judging = () if agent.judging is recorder else (agent.judging,)
        ran[name] = (backend, *judging)
        return agent, recorder

    progress = session.view(quiet=output.quiet)

    def search_row(agent: Agent, row: DataRow) -> Result:
        return session.run(agent, row.input, progress, row=row.fields or None)

    with progress:
        progress.begin(f"opening {', '.join(names)}")
        result = Race(names, enter, data, search_row, progress.begin, repeat, warm).run()
    if result.passes:
        report = compare_report.to_json(result, {"task": task.name, "search": search.search, "seed": run.seed})
        _write_files(result, report, report_file, plot)
        typer.echo(strict(report) if output.as_json else compare_report.report(result, ran))
    if result.interrupted:
        say(f"Interrupted: {len(result.passes)} of {repeat} repeats are complete.")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(SOLVED if result.difference is None else UNSOLVED)


def _entries(backends: str, speculate: str) -> list[tuple[str, tuple[str, str]]]:
    """What is compared, by name: a backend and a value of ``--speculate``. Raises ConfigError for less than two."""
    specs = [spec.strip() for spec in backends.split(",") if spec.strip()]
    values = [value.strip() for value in speculate.split(",")]
    pairs = [(spec, value) for spec in specs for value in values]
    if len(pairs) < 2:
        expected = "two or more, separated by commas, such as transformers,replay:run.jsonl"
        raise ConfigError(f"--backends {backends}: expected {expected}")
    return [(f"{spec} speculate={value}" if len(values) > 1 else spec, (spec, value)) for spec, value in pairs]


def _check_files(report_file: Path | None, plot: Path | None, repeat: int) -> None:
    """Raises ConfigError for a file that cannot be written and for a plot of a single repeat, and MissingExtraError."""
    if report_file is not None:
        check_writable(report_file, "--output")
    if plot is None:
        return
    if repeat < 2:
        raise ConfigError("--plot draws speed-ups, which need repeats; --repeat 3 also gives intervals")
    check_plot(plot, "speed")


def _write_files(result: RaceResult, report: dict[str, Any], report_file: Path | None, plot: Path | None) -> None:
    """Write the requested files. Raises ConfigError."""
    try:
        if report_file is not None:
            report_file.write_text(strict(report, indent=1) + "\n", encoding="utf-8", newline="\n")
            say(f"wrote {report_file}")
        if plot is not None and result.difference is None and len(result.passes) > 1:
            from .compare_plot import draw_speedups

            draw_speedups(plot, result.scores, f"{report['task']}, {report['search']}, {len(result.passes)} repeat(s)")
            say(f"wrote {plot}")
        elif plot is not None:
            say(f"{plot} is not drawn: speed-ups need equal trees in at least two repeats.")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from error


def _read_data(task: Task, words: Sequence[str] | None, limit: int | None, source: str | None) -> Data:
    """The inputs of the command line or of a data file. Raises ConfigError and InputError."""
    from ..taskfile.dataset import Data, DataRow, Gold, load

    if limit is not None or source is not None:
        if words:
            option = "--data" if limit is None else "--limit"
            raise ConfigError(f"--input and {option} exclude each other: {option} takes the inputs from a data file")
        return load(task, 0, limit, source)
    inputs = read_inputs(task, words)
    return Data(tuple(DataRow(number, text) for number, text in enumerate(inputs)), Gold(task, {}))


def _open_backend(spec: str, model: str | None, options: dict[str, str]) -> Backend:
    """A backend from ``NAME[:MODEL]`` or ``module:Class[:MODEL]``. Raises ConfigError."""
    from .. import registry
    from ..runtime import factory

    parts, known = spec.split(":"), registry.names("backend")
    words = 1 if parts[0] in known else 2
    package = parts[0].split(".")[0]
    if words == 2 and (len(parts) == 1 or not package or find_spec(package) is None):
        raise UnknownNameError("backend", parts[0], known, " The form module:Class is accepted as well.")
    return factory.open_backend(":".join(parts[:words]), ":".join(parts[words:]) or model, options)
