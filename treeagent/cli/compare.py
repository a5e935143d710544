"""``treeagent compare``: the same searches on several backends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import extras
from ..errors import ConfigError, UnknownNameError
from . import arguments
from .arguments import INTERRUPTED, SOLVED, UNSOLVED

if TYPE_CHECKING:
    from ..comparison.race import Race
    from ..task import Task
    from ..taskfile.dataset import Data


def compare(
    backends: Annotated[
        str,
        typer.Option(
            "--backends", "-b", metavar="A,B",
            help="Two or more, each NAME[:MODEL] or module:Class[:MODEL]; e.g. transformers:mini,replay:run.jsonl. "
            "The first is what the others are held against.",
        ),
    ],
    task: arguments.TaskName,
    search: arguments.SearchName = "bfs",
    model: arguments.ModelName = None,
    evaluator: arguments.EvaluatorName = None,
    input: arguments.Inputs = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take the first N inputs of the task's data instead.")
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE",
            help="A data file to take inputs from, or hf://datasets/OWNER/NAME/PATH; else the task's own.",
        ),
    ] = None,
    seed: arguments.Seed = 0,
    settings: arguments.Settings = None,
    variables: arguments.Variables = None,
    max_tokens: arguments.MaxTokens = None,
    max_calls: arguments.MaxCalls = None,
    max_nodes: arguments.MaxNodes = None,
    no_legality: arguments.NoLegality = False,
    allow_code: arguments.AllowCode = False,
    repeat: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Time everything N times, the backends in turn; an interval needs 3."),
    ] = 1,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Keep each backend and what it caches, after an untimed pass; else every repeat has a fresh one.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Write what --json prints here as well.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the speed-ups over the first backend here.")
    ] = None,
    as_json: arguments.Json = False,
    quiet: arguments.Quiet = False,
) -> None:  # fmt: skip
    """Run the same searches on several backends, and tell whether the trees are the same and who is faster.

    Exit codes: 0 the same tree everywhere; 1 a difference, which is printed; 2, 3 and 130 as for 'solve'.
    """
    specs = [spec.strip() for spec in backends.split(",") if spec.strip()]
    if len(specs) < 2:
        wanted = "two or more, separated by commas, such as transformers,replay:run.jsonl"
        raise ConfigError(f"--backends {backends}: expected {wanted}")
    options, given = arguments.pairs(settings, "--set"), arguments.pairs(variables, "--var")
    arguments.reach_local_code(search, evaluator, *specs, allow_code=allow_code)
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: expected the name of a PNG file, such as {plot.stem or 'speed'}.png")
    if plot is not None and repeat < 2:
        raise ConfigError("--plot draws speed-ups, which need repeats: --repeat 3 gives them an interval as well")
    if plot is not None:
        extras.require("option --plot", "matplotlib")
    for option, path in (("--output", output), ("--plot", plot)):
        if path is not None:
            arguments.check_writable(path, option)

    from ..comparison.race import Race
    from ..comparison.same_tree import ExchangeRecorder
    from ..runtime.agent import Agent
    from ..task import Task
    from . import compare_report
    from .session import view

    loaded = Task.load(task, variables=given, allow_code=allow_code)
    data = _data(loaded, input, limit, data_file)
    limits = arguments.budget(calls=max_calls, tokens=max_tokens, seconds=None, nodes=max_nodes, dollars=None)
    own = {name: value for name, value in options.items() if not name.startswith("backend.")}
    opening = {name.removeprefix("backend."): value for name, value in options.items() if name not in own}

    def enter(spec: str) -> tuple[Agent, ExchangeRecorder]:
        recorder = ExchangeRecorder(_open(spec, model, opening))
        agent = Agent(
            loaded, search, backend=recorder, evaluator=evaluator, options=own, seed=seed, budget=limits,
            legality=not no_legality,
        )  # fmt: skip
        return agent, recorder

    race = Race(specs, enter, data, shown := view(quiet=quiet), repeat, warm)
    with shown:
        shown.begin(f"opening {', '.join(specs)}")
        race.run()
    found = compare_report.to_json(race, {"task": loaded.name, "search": search, "seed": seed})
    typer.echo(json.dumps(found) if as_json else compare_report.report(race))
    _write(race, found, output, plot)
    if race.interrupted:
        arguments.say(f"Interrupted: {len(race.passes)} of {repeat} repeats are whole.")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(SOLVED if race.parting is None else UNSOLVED)


def _write(race: Race, found: dict[str, Any], output: Path | None, plot: Path | None) -> None:
    """The files that are wanted. Raises ConfigError."""
    try:
        if output is not None:
            output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")
            arguments.say(f"wrote {output}")
        if plot is not None and race.parting is None and len(race.passes) > 1:
            from .compare_plot import plot as draw

            draw(plot, race.scores, f"{found['task']}, {found['search']}, {len(race.passes)} repeat(s)")
            arguments.say(f"wrote {plot}")
        elif plot is not None:
            arguments.say(f"{plot} is not drawn: there are no speed-ups without the same tree in two repeats.")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from error


def _data(task: Task, given: Sequence[str] | None, limit: int | None, source: str | None) -> Data:
    from ..taskfile.dataset import Data, DataRow, Gold, load

    if limit is not None or source is not None:
        if given:
            option = "--data" if limit is None else "--limit"
            raise ConfigError(f"--input and {option} exclude each other: {option} takes the inputs from a data file")
        return load(task, 0, limit, source)
    inputs = arguments.read_inputs(task, given)
    return Data(tuple(DataRow(number, text) for number, text in enumerate(inputs)), Gold(task, {}))


def _open(spec: str, model: str | None, options: dict[str, str]) -> Any:
    """A backend from ``NAME[:MODEL]`` or ``module:Class[:MODEL]``. Raises ConfigError."""
    from .. import registry
    from ..runtime import factory

    parts, known = spec.split(":"), registry.names("backend")
    words = 1 if parts[0] in known else 2
    package = parts[0].split(".")[0]
    if words == 2 and (len(parts) == 1 or not package or find_spec(package) is None):
        raise UnknownNameError("backend", parts[0], known, " A module:Class will do as well.")
    return factory.open_backend(":".join(parts[:words]), ":".join(parts[words:]) or model, options)
