"""What several commands share: option types, settings, inputs, output."""

from __future__ import annotations

import io
import select
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, InputError

if TYPE_CHECKING:
    from ..runtime.budget import Budget
    from ..task import Task

SOLVED, UNSOLVED, WRONG, BACKEND_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    SOLVED: "solved, or an answer that the task cannot verify",
    UNSOLVED: "no answer, or none that the task verifies",
    WRONG: "wrong usage, configuration, input or journal",
    BACKEND_FAILED: "the backend failed, or its model could not be loaded",
    INTERRUPTED: "interrupted by Ctrl-C; the best attempt is still printed",
}
"""Documented in ``docs/cli.md`` and at the end of ``treeagent solve --help``."""

TaskName = Annotated[
    str,
    typer.Option("--task", "-t", help="A registered task, the path of a YAML file, or module:Class with --allow-code."),
]
SearchName = Annotated[str, typer.Option("--search", "-s", help="A registered search, or module:Class.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="What the backend opens: a name, hub id or path; else its own default."),
]
EvaluatorName = Annotated[
    str | None,
    typer.Option("--evaluator", "-e", help="A registered evaluator, or module:Class; else the task's own choice."),
]
EvaluatorModel = Annotated[
    str | None,
    typer.Option(help="Another model for the evaluator, on the same backend; 'seed' drafts for both with one draft."),
]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="What to solve; repeatable. '-' or nothing reads standard input, one a line."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE",
        help="An option of the search (b=5) or, with a prefix, of the others (evaluator.samples=3, backend.threads=2).",
    ),
]  # fmt: skip
Variables = Annotated[
    list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable of the task, such as shots=true.")
]
NoLegality = Annotated[
    bool, typer.Option("--no-legality", help="Keep illegal thoughts, to measure what the filter is worth.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Permit Python code outside the registry, as a task or as its checker.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Live = Annotated[bool, typer.Option("--live", help="Show the growing tree on the terminal, its best paths first.")]
MaxTokens = Annotated[int | None, typer.Option(help="Limit on prompt and completion tokens together.")]
MaxCalls = Annotated[int | None, typer.Option(help="Limit on requests to the backend.")]
MaxNodes = Annotated[int | None, typer.Option(help="Limit on thoughts in the tree.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Limit on wall-clock time.")]
MaxDollars = Annotated[float | None, typer.Option(help="Limit on cost; needs a backend with a known price.")]


def say(text: str) -> None:
    """A line for the person, on standard error."""
    typer.echo(printable(text), err=True)


def printable(text: str) -> str:
    """The text without control characters: a model's output must not steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def pairs(words: Sequence[str] | None, option: str) -> dict[str, str]:
    """``name=value`` words as a mapping. Raises ConfigError that lists every wrong one."""
    found: dict[str, str] = {}
    faults = []
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            faults.append(f"{option} {word}: expected NAME=VALUE")
        elif name.strip() in found:
            faults.append(f"{option} {word}: {name.strip()!r} is given twice")
        found[name.strip()] = value.strip()
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def reach_local_code(*names: str | None, allow_code: bool = False) -> None:
    """Let ``module:Class`` name a module of the current folder, as python itself would; in a task file if allowed.

    The folder goes last on the path: its files cannot take the place of an installed module.
    """
    here = str(Path.cwd())
    if (allow_code or any(":" in name for name in names if name)) and here not in sys.path:
        sys.path.append(here)


def budget(
    *, calls: int | None, tokens: int | None, seconds: float | None, nodes: int | None, dollars: float | None,
    recorded: Mapping[str, float | None] | None = None,
) -> Budget:  # fmt: skip
    """The limits given, on top of recorded ones. Raises ConfigError for a negative one."""
    from ..runtime.budget import Budget

    given = {"calls": calls, "tokens": tokens, "seconds": seconds, "nodes": nodes, "dollars": dollars}
    return Budget(**{**(recorded or {}), **{name: limit for name, limit in given.items() if limit is not None}})  # type: ignore[arg-type]


def check_writable(path: Path, option: str) -> None:
    """Raises ConfigError now for a file that could only be refused when the work is done; the file stays as it is."""
    try:
        there = path.exists()
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror}") from error


def read_inputs(task: Task, given: Sequence[str] | None) -> list[str]:
    """The inputs, checked; the task's first example where nothing is given. Raises InputError."""
    if given and list(given) != ["-"]:
        found = list(given)
    else:
        found = _lines(asked=bool(given))
        if not found and given:
            raise InputError("the input is empty: standard input has no line with anything on it")
        if not found:
            found = [task.examples[0]]
            say(f"No input given; taking the first example of {task.name}: {found[0]}")
    for number, text in enumerate(found, 1):
        try:
            task.read_input(text)
        except InputError as error:
            raise (InputError(f"input {number} of {len(found)}: {error}") if len(found) > 1 else error) from error
    return found


def _lines(*, asked: bool) -> list[str]:
    if sys.stdin is None or (sys.stdin.isatty() and not asked):
        return []
    if _silent():
        say("Reading inputs from standard input, one a line, until it ends; --input gives one on the command line.")
    try:
        return [line for line in sys.stdin.read().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text ({error.reason} at byte {error.start})") from error


def _silent() -> bool:
    """Whether standard input is open and says nothing yet: the command would look hung."""
    try:
        return sys.platform != "win32" and not select.select([sys.stdin.fileno()], [], [], 0.5)[0]
    except (OSError, ValueError, io.UnsupportedOperation):
        return False
