"""Faults of a task file that its examples show."""

from __future__ import annotations

from ..errors import ConfigError, InputError, Problem
from ..task import Task
from .key_lines import KeyLines


def problems(task: Task, keys: KeyLines) -> list[Problem]:
    """What reading every example and rendering every prompt at it shows to be wrong."""
    faults: list[Problem] = []
    for index, example in enumerate(task.examples):
        try:
            input = task.read_input(example)
            root = task.root(input)
        except (InputError, ValueError) as error:
            faults.append(keys.problem(("input", "examples", index), str(error)))
            continue
        for role in task.roles:
            try:
                choices = [{"state": root.state, "text": "", "steps": []}]
                task.messages(role, input, root, [], choices)
                task.prompt(role, input, root, [], choices)
            except ConfigError as error:
                faults.extend(problem for problem in error.problems if problem not in faults)
    return faults
