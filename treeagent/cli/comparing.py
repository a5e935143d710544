"""``treeagent compare``: the same searches on several backends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treeagent.errors import ConfigError, UnknownNameError

from . import common
from .common import INTERRUPTED, SOLVED, UNSOLVED

if TYPE_CHECKING:
    from treeagent.agent import Agent, Result
    from treeagent.compare import Difference, Exchange, Recorder, Score
    from treeagent.data import Data
    from treeagent.progress import Progress
    from treeagent.task import Task


def compare(
    backends: Annotated[
        str,
        typer.Option(
            "--backends", "-b", metavar="A,B",
            help="Two or more, each NAME[:MODEL] or module:Class[:MODEL]; e.g. transformers:mini,replay:run.jsonl. "
            "The first is what the others are held against.",
        ),
    ],
    task: common.TaskName,
    search: common.SearchName = "bfs",
    model: common.ModelName = None,
    evaluator: common.EvaluatorName = None,
    input: common.Inputs = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take the first N inputs of the task's data instead.")
    ] = None,
    seed: common.Seed = 0,
    settings: common.Settings = None,
    variables: common.Variables = None,
    max_tokens: common.MaxTokens = None,
    max_calls: common.MaxCalls = None,
    max_nodes: common.MaxNodes = None,
    no_legality: common.NoLegality = False,
    allow_code: common.AllowCode = False,
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:  # fmt: skip
    """Run the same task, search, seed and inputs on several backends, and tell whether the trees are the same.

    Exit codes: 0 the same tree everywhere; 1 a difference, which is printed; 2, 3 and 130 as for 'solve'.
    """
    specs = [spec.strip() for spec in backends.split(",") if spec.strip()]
    if len(specs) < 2:
        wanted = "two or more, separated by commas, such as transformers,replay:run.jsonl"
        raise ConfigError(f"--backends {backends}: expected {wanted}")
    options, given = common.pairs(settings, "--set"), common.pairs(variables, "--var")
    common.reach_local_code(search, evaluator, *specs)

    import asyncio

    from treeagent.agent import Agent
    from treeagent.compare import Recorder, Score
    from treeagent.task import Task

    from .running import view

    loaded = Task.load(task, variables=given, allow_code=allow_code)
    data = _data(loaded, input, limit)
    limits = common.budget(calls=max_calls, tokens=max_tokens, seconds=None, nodes=max_nodes, dollars=None)
    own = {name: value for name, value in options.items() if not name.startswith("backend.")}
    opening = {name.removeprefix("backend."): value for name, value in options.items() if name not in own}
    shown = view(quiet=quiet)
    scores, agents = [Score(spec) for spec in specs], []
    recorders: list[Recorder] = []
    with shown:
        for spec in specs:
            shown.begin(f"loading {spec}")
            recorders.append(Recorder(_open(spec, model, opening)))
            agent = Agent(
                task, search, backend=recorders[-1], evaluator=evaluator, options=own, variables=given, seed=seed,
                budget=limits, legality=not no_legality, allow_code=allow_code,
            )  # fmt: skip
            agents.append(agent)
    difference: tuple[str, str, Difference] | None = None
    firsts: list[tuple[Result, list[Exchange]]] = []
    for number, (agent, recorder, score) in enumerate(zip(agents, recorders, scores, strict=True)):
        for place, row in enumerate(data.rows):
            result = _run(agent, row.input, shown, f"{score.backend}: {row.input} ({place + 1} of {len(data.rows)})")
            said = recorder.taken()
            score.add(result, data.gold.grade(row, result.answer) if len(data.gold) else _right(result))
            if number == 0:
                firsts.append((result, said))
            elif difference is None and (found := _difference(firsts[place], (result, said))) is not None:
                difference = (row.input, score.backend, found)
        asyncio.run(recorder.aclose())
    _report(specs, scores, difference, as_json=as_json, settings={"task": loaded.name, "search": search, "seed": seed})
    raise typer.Exit(SOLVED if difference is None else UNSOLVED)


def _data(task: Task, given: Sequence[str] | None, limit: int | None) -> Data:
    from treeagent.data import Data, Gold, Row, load

    if limit is not None:
        if given:
            raise ConfigError("--input and --limit exclude each other: --limit takes the inputs from the task's data")
        return load(task, 0, limit)
    inputs = common.read_inputs(task, given)
    return Data(tuple(Row(number, text) for number, text in enumerate(inputs)), Gold(task, {}))


def _open(spec: str, model: str | None, options: dict[str, str]) -> Any:
    """A backend from ``NAME[:MODEL]`` or ``module:Class[:MODEL]``. Raises ConfigError."""
    from treeagent import registry, wiring

    parts, known = spec.split(":"), registry.names("backend")
    words = 1 if parts[0] in known else 2
    package = parts[0].split(".")[0]
    if words == 2 and (len(parts) == 1 or not package or find_spec(package) is None):
        raise UnknownNameError("backend", parts[0], known, " A module:Class will do as well.")
    return wiring.open_backend(":".join(parts[:words]), ":".join(parts[words:]) or model, options)


def _run(agent: Agent, text: str, shown: Progress, stage: str) -> Result:
    from .running import run

    with shown:
        shown.begin(stage)
        result = run(agent, text, shown)
    if result.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)
    return result


def _right(result: Result) -> bool | None:
    """The task's verdict; an input without any answer is not solved, whoever judges."""
    return False if result.answer is None else result.solved


def _difference(expected: tuple[Result, list[Exchange]], got: tuple[Result, list[Exchange]]) -> Difference | None:
    from treeagent.compare import first_difference, same_end

    return first_difference(expected[1], got[1]) or same_end(expected[0], got[0])


def _report(
    specs: Sequence[str],
    scores: Sequence[Score],
    difference: tuple[str, str, Difference] | None,
    *,
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    if as_json:
        parting = None
        if difference is not None:
            parting = {"input": difference[0], "backend": difference[1], **difference[2].to_json()}
        rows = [score.to_json() for score in scores]
        typer.echo(json.dumps({**settings, "same_tree": difference is None, "difference": parting, "backends": rows}))
        return
    if difference is None:
        typer.echo(f"same tree: {scores[0].inputs} input(s), token for token")
    else:
        text, backend, found = difference
        typer.echo(common.printable(f"not the same tree: input {text}, {backend} against {specs[0]}: {found}"))
    table = [("backend", "solved", "tokens", "seconds", "generated tokens/s"), *map(_cells, scores)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join([name.strip().ljust(widths[0]), *cells]))


def _cells(score: Score) -> tuple[str, ...]:
    solved = "unknown" if score.solved is None else str(score.solved)
    tokens = "unknown" if score.tokens is None else f"{score.tokens:,}"
    speed = "unknown" if score.speed is None else f"{score.speed:,.0f}"
    return score.backend, f"{solved}/{score.inputs}", tokens, f"{score.seconds:.2f}", speed
