"""What is probably a mistake in a task, though it can be run: warnings of ``treeagent tasks validate``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .. import registry
from ..chat import conversation
from ..errors import ConfigError, Problem, did_you_mean
from ..patterns import Deadline, Pattern, PatternLimitError
from ..task import Task
from . import templates
from .step_reader import StepReader
from .yaml_task import YamlTask

_FIELDS = ("input", "state", "steps", "depth", "choices", "question", "text")
_SINGLE_BRACES = re.compile(rf"(?<!\{{)\{{({'|'.join(_FIELDS)})\}}(?!\}})")
"""Fields as ``str.format`` has them, which is how other projects write prompts."""
_FROM_THE_ROOT = ("propose", "sample", "io", "cot")
"""Roles that see the problem in nothing but their prompt."""
_UNSEEN = "so the model never sees the problem; use {{ input }} or {{ state }}"
_MOST_TRIES = 50
"""Lines of prompts on which expressions are tried."""


def unknown_evaluator(task: Task) -> list[Problem]:
    """A problem where the task names an evaluator that is not registered; code is checked elsewhere."""
    names = registry.names("evaluator")
    if ":" in task.evaluator or task.evaluator in names:
        return []
    message = f"no evaluator is called {task.evaluator!r}.{did_you_mean(task.evaluator, names)}"
    return [_problem(task, ("evaluate", "by"), message)]


def warnings(task: Task) -> list[Problem]:
    """Everything that is probably a mistake, by line."""
    problems = [*_prompts(task)]
    if isinstance(task, YamlTask):
        problems += [*_patterns(task), *_expressions(task), *_evaluator(task)]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _problem(task: Task, loc: tuple[str | int, ...], message: str) -> Problem:
    if isinstance(task, YamlTask):
        return task.keys.problem(loc, message)
    return Problem(None, None, ".".join(map(str, loc)), message)


def _prompts(task: Task) -> Iterator[Problem]:
    """Prompts that ignore the input, hold a field in single braces, or are empty."""
    inputs = list(dict.fromkeys(task.read_input(example) for example in task.examples))
    for role in task.roles:
        texts = [_rendered(task, role, input) for input in inputs]
        braces = _SINGLE_BRACES.search(texts[0])
        if braces and braces[0] not in inputs[0]:
            message = f"{braces[0]} stays as it is; a field is written {{{{ {braces[1]} }}}}"
            yield _problem(task, ("prompts", role), message)
        if not texts[0].strip():
            yield _problem(task, ("prompts", role), "the prompt is empty")
        elif len(inputs) > 1 and len(set(texts)) == 1:
            yield _problem(task, ("prompts", role), f"the prompt is the same for every example, {_UNSEEN}")
        elif len(inputs) == 1 and isinstance(task, YamlTask):
            read = [templates.fields(source) for of, _, source in task.spec.prompts.templates() if of == role]
            shown = {"input", "state"} if role in _FROM_THE_ROOT else {"input", "state", "steps", "choices"}
            if not set().union(*read) & shown:
                yield _problem(task, ("prompts", role), f"the prompt has no field of the input, {_UNSEEN}")


def _rendered(task: Task, role: str, input: str) -> str:
    """A role's prompt where the search meets it: at the root, or after a step for what judges and answers."""
    root = task.root(input)
    choices = [{"state": root.state, "text": input, "steps": [input]}]
    thought, steps = (root, []) if role in _FROM_THE_ROOT else (replace(root, text=input), [input])
    messages = task.messages(role, input, thought, steps, choices)
    return conversation(messages, task.prompt(role, input, thought, steps, choices))


def _patterns(task: YamlTask) -> Iterator[Problem]:
    """Patterns that may take exponential time, and an answer's pattern without its group."""
    spec = task.spec
    for loc, source in (
        (("input", "pattern"), spec.input.pattern),
        (("thought", "pattern"), spec.thought.pattern),
        (("answer", "pattern"), spec.answer.pattern),
    ):
        if source is not None and Pattern(source).nested_quantifiers:
            message = (
                "nested quantifiers: a repetition within a repetition, such as (\\w+\\s?)+, may take exponential time "
                "on a text that does not match; have each round begin with something that the inner one cannot match"
            )
            yield task.keys.problem(loc, message)
    if "answer" not in Pattern(spec.answer.pattern).groups:
        message = "there is no group (?P<answer>...), so the whole match is the answer"
        yield task.keys.problem(("answer", "pattern"), message)


def _evaluator(task: YamlTask) -> Iterator[Problem]:
    """An evaluator that the file names and cannot use, and labels that a judge cannot tell apart."""
    known: dict[str, str] = {}
    for label in task.labels:
        other = known.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            message = f"differs from {other!r} in nothing but case or blanks, and a judge's reply is read in any case"
            yield task.keys.problem(("evaluate", "labels", label), message)
    if "by" in task.spec.evaluate.model_fields_set and not unknown_evaluator(task) and ":" not in task.evaluator:
        try:
            registry.load("evaluator", task.evaluator)().check(task)
        except ConfigError as error:
            yield task.keys.problem(("evaluate", "by"), str(error))


def _expressions(task: YamlTask) -> Iterator[Problem]:
    """Expressions of ``thought`` that no step can change, take a text for a number, or refuse every step shown.

    They are tried on the lines of the task's own prompts that match ``thought.pattern``.
    """
    spec = task.spec.thought
    known = {"input", "state", "steps", "depth", "text", "parent", "row"}
    groups = Pattern(spec.pattern).groups if spec.pattern else frozenset[str]()
    for key in ("legal", "terminal"):
        source = getattr(spec, key)
        if key in spec.model_fields_set and not templates.fields(f"{{{{ {source} }}}}") & (known | groups):
            always = _value(source, dict(task.variables))
            if always is (key == "terminal"):
                yield task.keys.problem(("thought", key), f"it is {str(always).lower()} for every step")
        for name in templates.texts_as_numbers(source, groups):
            message = f"{name!r} is a text here, as every group is; for its number write {name} | int"
            yield task.keys.problem(("thought", key), message)
    for key, message in _failures(task, shown=False):
        yield task.keys.problem(("thought", key), message)
    samples = list(_samples(task))
    of_the_text_alone = not templates.fields(f"{{{{ {spec.legal} }}}}") & {"input", "state", "steps", "parent", "row"}
    if samples and of_the_text_alone and all(_value(spec.legal, fields) is False for fields in samples):
        yield task.keys.problem(("thought", "legal"), "it is false for every step that the prompts show")


def failing(task: Task) -> list[Problem]:
    """A problem for each expression or template of ``thought`` that fails on every step that the prompts show."""
    if not isinstance(task, YamlTask):
        return []
    return [task.keys.problem(("thought", key), message) for key, message in _failures(task, shown=True)]


def _failures(task: YamlTask, *, shown: bool) -> Iterator[tuple[str, str]]:
    """Keys that fail on all steps that the prompts show; if not ``shown``, on groups of "1" where they show none."""
    samples = list(_samples(task))
    if bool(samples) != shown:
        return
    samples = samples or [_made_up(task)]
    for key in ("state", "legal", "terminal"):
        if key == "state" and task.checker.simulates:
            continue
        faults = [_fault(task, key, fields) for fields in samples]
        if all(faults):
            tried = "that the prompts show" if shown else 'whose groups are all "1"'
            yield key, f"it fails on every step {tried}: {faults[0]}"


def _value(source: str, fields: dict[str, Any]) -> bool | None:
    try:
        return templates.evaluate(source, fields)
    except templates.FAULTS:
        return None


def _fault(task: YamlTask, key: str, fields: dict[str, Any]) -> str | None:
    reader = StepReader(task.spec, None, task.checker, task.variables, task.keys)
    try:
        reader.evaluated(key, templates.render if key == "state" else templates.evaluate, fields)
    except ConfigError as error:
        return error.problems[0].message
    return None


def _samples(task: YamlTask) -> Iterator[dict[str, Any]]:
    """Fields of the steps that the prompts of the examples show."""
    pattern = Pattern(task.spec.thought.pattern) if task.spec.thought.pattern else None
    for example in task.examples if pattern else ():
        input = task.read_input(example)
        text = task.spec.thought.separator.join(_rendered(task, role, input) for role in task.roles)
        lines = dict.fromkeys(line.strip() for line in text.split(task.spec.thought.separator))
        deadline = Deadline()
        for line in list(lines)[:_MOST_TRIES]:
            try:
                groups = pattern.fullmatch(line, deadline) if pattern else None
            except PatternLimitError:
                return
            if groups is not None:
                yield _step(task, input, line, groups)


def _made_up(task: YamlTask) -> dict[str, Any]:
    groups = Pattern(task.spec.thought.pattern).groups if task.spec.thought.pattern else ()
    return _step(task, task.read_input(task.examples[0]), "1", dict.fromkeys(groups, "1"))


def _step(task: YamlTask, input: str, text: str, groups: Mapping[str, str | None]) -> dict[str, Any]:
    root = task.root(input)
    fields = {"input": input, "parent": root.state, "state": root.state, "depth": 1, "text": text, "steps": [text]}
    return {**fields, **task.fields_of(input), **groups}
