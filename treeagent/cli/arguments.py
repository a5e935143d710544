"""Types of options that several commands have, and what reads their values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..display.text import printable
from ..errors import ConfigError, InputError
from ..text import argument, clean

SOLVED, UNSOLVED, WRONG, PLUGIN_FAILED, FAULT, NO_OUTPUT, INTERRUPTED = 0, 1, 2, 3, 70, 74, 130
HUNG_UP, TERMINATED = 129, 143
EXIT_CODES = {
    SOLVED: "solved, or an answer that the task cannot verify",
    UNSOLVED: "no answer, or none that the task verifies",
    WRONG: "wrong usage, configuration, input or journal",
    PLUGIN_FAILED: "the backend or another plug-in failed, or a model could not be loaded",
    FAULT: "a fault of treeagent itself; please report it with its traceback",
    NO_OUTPUT: "standard output could not be written; journals and other files are complete",
    HUNG_UP: "ended by SIGHUP; the best attempt is still printed",
    INTERRUPTED: "interrupted by Ctrl-C; the best attempt is still printed",
    TERMINATED: "ended by SIGTERM; the best attempt is still printed",
}
"""Documented in ``docs/cli.md`` and at the end of ``treeagent solve --help``."""

TaskName = Annotated[
    str,
    typer.Option("--task", "-t", help="A registered task, the path of a YAML file, or module:Class with --allow-code."),
]
SearchName = Annotated[str, typer.Option("--search", "-s", help="A registered search, or module:Class.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model of the backend: a name, hub id or path. Default: the backend's own."),
]
EvaluatorName = Annotated[
    str | None,
    typer.Option("--evaluator", "-e", help="A registered evaluator, or module:Class. Default: the task's own."),
]
EvaluatorModel = Annotated[
    str | None,
    typer.Option(
        help="Another model for the evaluator, on --evaluator-backend, else on the same backend, where 'seed' uses one "
        "draft model for both."
    ),
]
EvaluatorBackend = Annotated[
    str | None,
    typer.Option(
        help="Another backend for the evaluator, or module:Class; its options are --set evaluator_backend.NAME=VALUE."
    ),
]
ModelOf = Annotated[
    list[str] | None,
    typer.Option(
        "--model-of", metavar="NAME=MODEL",
        help="A further model, for a search that chooses among several (ab-mcts): on --backend-of NAME=..., else on a "
        "backend like the first model's. Repeatable.",
    ),
]  # fmt: skip
BackendOf = Annotated[
    list[str] | None,
    typer.Option(
        "--backend-of", metavar="NAME=BACKEND",
        help="The backend of a further model; its options are --set backend_of.NAME.OPTION=VALUE.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", help="An input to solve; repeatable. '-' or no input: read standard input, one input a line."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE",
        help="An option of the search (b=5), the evaluator (evaluator.samples=3), the backend (backend.threads=2), the "
        "evaluator's own backend (evaluator_backend.threads=2) or the task's sampling (sampling.value.max_tokens=64).",
    ),
]  # fmt: skip
Adapter = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="A LoRA adapter of the model, as peft writes it; short for --set backend.adapter. That of the evaluator: "
        "--evaluator-model FOLDER.",
    ),
]
Variables = Annotated[
    list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable of the task, such as shots=true.")
]
NoLegality = Annotated[
    bool, typer.Option("--no-legality", help="Keep illegal thoughts, to measure the effect of the filter.")
]
Speculate = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Run at most N requests before the search asks for them; the tree stays the same. 0: none. auto: some, "
        "on a local backend whose passes are long, without limits of tokens.",
    ),
]
Order = Annotated[
    str,
    typer.Option(
        metavar="arrival|shortest",
        help="Of the requests of several searches that the backend seed cannot run at once, begin with the first that "
        "came, or with those of the search that will probably end first.",
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Allow Python code outside the registry that a task or a journal names."),
]
Fsync = Annotated[
    bool,
    typer.Option("--fsync", help="Wait until each line of a journal is on the disk, against power cuts."),
]
Trusted = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="backend.NAME=VALUE",
        help="Confirm or replace an option that says where requests go, such as backend.base_url.",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and only JSON, on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Live = Annotated[bool, typer.Option("--live", help="Show the growing tree on the terminal, best paths first.")]
Otel = Annotated[
    bool,
    typer.Option(
        "--otel",
        help="Send OpenTelemetry spans of search, thoughts, requests and rounds, without their texts, to "
        "OTEL_EXPORTER_OTLP_ENDPOINT.",
    ),
]
OtelContent = Annotated[
    bool, typer.Option("--otel-content", help="As --otel, with inputs, prompts, replies and steps in the spans.")
]
MaxTokens = Annotated[int | None, typer.Option(help="Limit on prompt and completion tokens together.")]
MaxCalls = Annotated[int | None, typer.Option(help="Limit on requests to the backend.")]
MaxNodes = Annotated[int | None, typer.Option(help="Limit on thoughts in the tree.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Limit on wall-clock time.")]
MaxDollars = Annotated[float | None, typer.Option(help="Limit on cost; requires a backend with a known price.")]


def echo(text: str, *, newline: bool = True) -> None:
    """Print a text for the user on standard output, without what could control a terminal."""
    typer.echo(printable(text), nl=newline)


def check_words(words: Sequence[str]) -> None:
    """Check that every word of a command line is UTF-8 text. Raises InputError naming the first that is not."""
    for number, word in enumerate(words, 1):
        if clean(word) != word:
            raise InputError(f"argument {number}, {word!a}, is not UTF-8 text")


def say(text: str) -> None:
    """Print a line for the user on standard error."""
    typer.echo(printable(text), err=True)


def pairs(words: Sequence[str] | None, option: str, *, texts: bool = False) -> dict[str, str]:
    """Read ``name=value`` words into a mapping; values that are ``texts`` keep the blanks around them.

    Raises ConfigError that lists every wrong word.
    """
    values: dict[str, str] = {}
    faults = []
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            faults.append(f"{option} {word}: expected NAME=VALUE")
        elif name.strip() in values:
            faults.append(f"{option} {word}: {name.strip()!r} is given twice")
        values[name.strip()] = value if texts else value.strip()
    if faults:
        raise ConfigError("\n".join(faults))
    return values


def row_fields(words: Sequence[str] | None) -> dict[str, Any] | None:
    """The fields of a row: each value is JSON where it can be read so, else a text. None without any."""
    fields: dict[str, Any] = {}
    for name, value in pairs(words, "--row", texts=True).items():
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = argument(value)
    return fields or None


def reach_local_code(*names: str | None, allow_code: bool = False) -> None:
    """Make modules of the current folder importable where a name has the form ``module:Class`` or code is allowed.

    The folder goes last on the path, so that its files cannot replace an installed module.
    """
    here = str(Path.cwd())
    if (allow_code or any(":" in name for name in names if name)) and here not in sys.path:
        sys.path.append(here)
