"""``treeagent tasks``: list, show, write and check task files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import arguments
from .arguments import echo, say

if TYPE_CHECKING:
    from ..task import Task

app = typer.Typer(no_args_is_help=True, help="List, show, write and check tasks.")


@app.command("list")
def list_() -> None:
    """List every registered task with its description."""
    from .. import registry
    from ..task import Task

    names = registry.task_names()
    width = max(map(len, names), default=0)
    for name in names:
        try:
            description = Task.load(name).description
        except ConfigError as error:
            description = f"cannot be used: {error}"
        echo(f"{name:<{width}}  {description}")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A registered task, the path of a YAML file, or module:Class with --allow-code.")
    ],
    variables: arguments.Variables = None,
    allow_code: arguments.AllowCode = False,
) -> None:
    """Show the input, abilities and prompts of a task, rendered for its first example."""
    from ..chat import conversation
    from ..task import Task

    arguments.reach_local_code(allow_code=allow_code)
    task = Task.load(name, variables=arguments.pairs(variables, "--var", texts=True), allow_code=allow_code)
    example = task.examples[0]
    echo(f"{task.name} (version {task.version}): {task.description}")
    echo(f"input: {task.input_form}, such as {', '.join(map(repr, task.examples))}")
    for line in _abilities(task):
        echo(line)
    input = task.read_input(example)
    root = task.root(input)
    for role in task.roles:
        sampling, count = task.sampling(role)
        how = f"{count} of at most {sampling.max_tokens} tokens, temperature {sampling.temperature:g}"
        echo(f"\n--- {role}: {how}")
        choices = [{"state": root.state, "text": "", "steps": []}]
        messages = task.messages(role, input, root, [], choices)
        echo(conversation(messages, task.prompt(role, input, root, [], choices)))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.")],
    dir: Annotated[Path, typer.Option(help="Folder of NAME.yaml.")] = Path(),
) -> None:
    """Write a small complete task file to start from; it runs unchanged, and every key has a comment."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"a task's name has letters, digits, - and _ only, so it cannot be {name!r}")
    path = dir / f"{name}.yaml"
    try:
        dir.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(_template(name))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already; nothing was written") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    word = shlex.quote(str(path))
    echo(f"wrote {path}")
    echo(f"check it:  treeagent tasks validate {word}")
    echo(f"run it:    treeagent solve --task {word}")


@app.command()
def validate(
    names: Annotated[list[str], typer.Argument(metavar="TASK...", help="Registered tasks, or paths of YAML files.")],
    allow_code: arguments.AllowCode = False,
) -> None:
    """Render every prompt with every example and report all problems as FILE:LINE:KEY: what is wrong.

    What is probably a mistake, though the task can be run, is a warning: a prompt that ignores the input, for instance.
    The first row of the data is shown as it is read, with its gold answer. Grading is tried on the first rows: each
    gold answer must agree with itself and not with that of another row; the first verdicts are shown.

    Exit codes: 0 no problem, warnings aside; 2 at least one.
    """
    arguments.reach_local_code(allow_code=allow_code)
    wrong = False
    for name in names:
        task, problems, warnings = _checked(name, allow_code=allow_code)
        for problem in problems:
            say(problem)
        for warning in warnings:
            say(f"warning: {warning}")
        wrong = wrong or bool(problems)
        if task is not None and not problems:
            echo(f"{name}: no problem found{f', {_counted(warnings)}' if warnings else ''}")
            for line in [*_abilities(task), *_first_row(task)]:
                echo(f"  {line}")
    if wrong:
        raise typer.Exit(arguments.WRONG)


_SHOWN = 4
"""Verdicts that are shown."""


def _counted(warnings: list[str]) -> str:
    return f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"


def _checked(name: str, *, allow_code: bool) -> tuple[Task | None, list[str], list[str]]:
    """The task, its problems and its warnings."""
    from ..task import Task
    from ..taskfile import advice, dataset, grading_trial

    try:
        task = Task.load(name, allow_code=allow_code)
        problems = [*advice.unknown_evaluator(task), *advice.failing(task)]
        warnings = advice.warnings(task)
        if task.data is not None:
            trials = grading_trial.trials(task, dataset.load(task))
            problems += grading_trial.problems(task, trials)
            warnings += grading_trial.warnings(task, trials)
    except ConfigError as error:
        return None, [str(problem) for problem in error.problems], []
    return task, [str(problem) for problem in problems], [str(problem) for problem in warnings]


def _first_row(task: Task) -> Iterator[str]:
    """The number of rows, and the first one with its gold answer."""
    from ..taskfile import dataset, grading_trial, readers

    if task.data is None:
        return
    data = dataset.load(task)
    rows = data.rows
    yield f"data: {len(rows):,} row{'' if len(rows) == 1 else 's'}; the first is {rows[0].input!r}"
    _, records = readers.records(task.data.file, task.data.folder, task.data.sha256)
    gold = dataset.gold_answer(task.data.gold, records[rows[0].number])
    yield "its gold answer: " + ("none; its answer cannot be graded" if gold is None else repr(gold))
    yield from map(str, grading_trial.trials(task, data)[:_SHOWN])


def _abilities(task: Task) -> Iterator[str]:
    """Roles, searches and evaluators that the task supports, with the reason where it does not."""
    yield f"roles: {', '.join(task.roles)}"
    for kind, title in (("search", "searches"), ("evaluator", "evaluators")):
        supported, lacking = _usable(kind, task)
        missing = "; ".join(f"{what} for {', '.join(names)}" for what, names in lacking.items())
        yield f"{title}: {', '.join(supported) or 'none'}" + (f" (missing: {missing})" if missing else "")
    check = "exactly, by the task itself" if task.can_verify else "not by itself: an answer is printed as not verified"
    yield f"answers are verified {check}" if task.can_verify else f"answers: {check}"


def _usable(kind: str, task: Task) -> tuple[list[str], dict[str, list[str]]]:
    """What can be used with the task, and by what the task lacks the names of what cannot."""
    from .. import registry

    supported: list[str] = []
    lacking: dict[str, list[str]] = {}
    for name in registry.names(kind):
        try:
            registry.load(kind, name)().check(task)
        except ConfigError as error:
            # "the search 'io' needs a prompt; the task 'x' has no prompt 'prompts.io' (x.yaml)"
            prompt = re.search(r"has no prompt '([\w.]+)'", str(error))
            lacking.setdefault(prompt[1] if prompt else "a checker that verifies", []).append(name)
        else:
            supported.append(name)
    return supported, lacking


def _template(name: str) -> str:
    from importlib import resources

    text = resources.files("treeagent.cli").joinpath("task.yaml").read_text(encoding="utf-8")
    return text.replace("NAME", name)
