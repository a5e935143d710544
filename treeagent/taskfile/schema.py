"""The schema of a task file, and a reader that reports every fault with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, JsonValue, PlainValidator, ValidationError

from .. import validation, yaml_text
from ..chat import thinking_value
from ..errors import ConfigError, Problem, did_you_mean
from ..request import Sampling
from ..task import ROLES, Role, Scalar
from ..text import cleaned
from .data_schema import DataSpec
from .grade_schema import Grade
from .key_lines import Lines, as_written, key_lines, line_of, scalar_at
from .observe_schema import ObserveSpec
from .prompt_schema import Prompts
from .strict_model import Pattern, Strict, Text


class Metadata(Strict):
    """The version and the origin of the file."""

    version: int = Field(ge=1)
    """Raise it whenever a change can change results."""
    source: str | None = None


class InputSpec(Strict):
    """The form of an input."""

    description: str
    pattern: Pattern | None = None
    """Must match the whole input without the line breaks around it. An input that matches only with single blanks, and
    none around it, is read with them."""
    normalise: str = "{{ input }}"
    """Template for the form that prompts show."""
    examples: list[str] = Field(min_length=1)
    rows: list[dict[str, JsonValue]] | None = None
    """For each example the fields of a row that ``data.fields`` names."""


class ThoughtSpec(Strict):
    """How completions of ``propose`` and ``sample`` become thoughts."""

    separator: Text = "\n"
    pattern: Pattern | None = None
    """Must match a whole piece, or the piece without the blanks around it, which is the step then. Its named groups are
    fields of the templates below; a group ``text`` is the step."""
    state: str = "{{ parent }}\n{{ text }}"
    """Template for the state after the step."""
    legal: str = "true"
    """Jinja expression; the checker's ``legal`` must hold as well."""
    terminal: str = "false"
    """Jinja expression; a thought at full depth is terminal in any case."""


class AnswerSpec(Strict):
    """How an answer is read."""

    pattern: Pattern = r"(?s)(?P<answer>.+)"
    """Searched in completions of ``answer``, ``io`` and ``cot``; the last match's group ``answer`` counts."""
    template: str = "{{ steps | join('\\n') }}"
    """The answer of a path, for tasks without a prompt ``answer``."""
    same: str = "{{ answer.strip() }}"
    """Template; answers of equal text are one answer when votes are counted. Where ``grade`` names a kind and this is
    not given, answers that grade alike are one answer."""
    grade: Grade | None = None
    """How an answer is compared with the gold answer; the checker's ``grade`` where it is not given, which compares
    texts without the blanks around them."""


class EvaluateSpec(Strict):
    """How thoughts are evaluated."""

    by: str = "value"
    """The evaluator, where the user names none."""
    labels: dict[Text, float] = Field(default={"sure": 20.0, "likely": 1.0, "impossible": 0.001}, min_length=2)


class SamplingSpec(Strict):
    """How completions of one role are drawn; a key that is missing has the role's default."""

    temperature: float | None = Field(default=None, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    num_beams: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1)
    stop: list[Text] | None = None
    thinking: Annotated[bool | int | None, PlainValidator(thinking_value)] = None
    """Thinking on or off, or the most tokens of it."""
    template: dict[str, JsonValue] | None = None
    """Arguments of the chat template."""
    extra_body: dict[str, JsonValue] | None = None
    """Further fields of a request to a server."""
    constrain: bool | None = None
    """Whether completions must match the pattern of the role: of a step or an answer, or the labels of a judge;
    ``constraints`` has another one."""
    regex: Pattern | None = None
    """Completions must match it whole."""
    choices: list[Text] | None = Field(default=None, min_length=1)
    """Completions must be one of these."""
    json_schema: dict[str, JsonValue] | None = None
    """Completions must be JSON of this schema."""

    def over(self, default: Sampling, count: int) -> tuple[Sampling, int]:
        """The keys that are given on top of a default, but for ``constrain``."""
        fields = {key: value for key, value in self.model_dump(exclude={"constrain"}).items() if value is not None}
        count = fields.pop("n", count)
        return default.changed(fields), count


class TaskFile(Strict):
    """A complete task."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    description: str
    metadata: Metadata
    input: InputSpec
    depth: int = Field(ge=1)
    """Steps of a complete solution."""
    prompts: Prompts
    thought: ThoughtSpec = ThoughtSpec()
    answer: AnswerSpec = AnswerSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    sampling: dict[Role, SamplingSpec] = Field(default={})
    constraints: dict[Role, Pattern] = Field(default={})
    """What ``sampling.ROLE.constrain: true`` holds completions to, where the pattern that reads them is wider or cannot
    be a constraint: for ``sample`` a step, for ``answer`` an answer; ``propose`` and ``io`` follow these."""
    variables: dict[str, Scalar] = Field(default={})
    """Defaults of extra template variables; ``--var name=value`` sets them."""
    checker: str | None = None
    """A registered checker, or ``package.module:Class`` together with ``--allow-code``."""
    data: DataSpec | None = None
    observe: ObserveSpec = ObserveSpec()
    """Limits of the checker's ``observe``, and what an observation changes."""


def parse(text: str, path: Path | None) -> tuple[TaskFile, Lines, list[Problem]]:
    """The file's content, the line of each key, and what is wrong.

    Faulty keys are left out of the content, so that the rest can be checked too. Raises ConfigError when there is no
    content.
    """
    node = yaml_text.compose(text, path)
    lines, problems = key_lines(node, path)
    try:
        document = None if node is None else cleaned(yaml_text.construct(node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise ConfigError([*problems, Problem(path, line, "", f"not valid YAML: {error.problem}")]) from error
    if not isinstance(document, dict):
        raise ConfigError([Problem(path, 1, "", "a task file is a mapping of keys such as 'name', 'input', 'prompts'")])
    try:
        return TaskFile.model_validate(document), lines, problems
    except ValidationError as error:
        faults = error.errors()
        known = {problem.key for problem in problems if "given twice" not in problem.message}
        faulty = [_problem(dict(item), path, lines, node) for item in faults]
        problems += [problem for problem in faulty if problem.key not in known]
    for item in faults:
        _drop(document, item["loc"])
    try:
        return TaskFile.model_validate(document), lines, problems
    except ValidationError as error:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0)) from error


def _drop(document: Any, loc: tuple[str | int, ...]) -> None:
    """Take the value at a place out of the document, if it is there."""
    *outer, last = (part for part in loc if part != "[key]")
    for part in outer:
        document = document.get(part) if isinstance(document, dict) else None
    if isinstance(document, dict):
        document.pop(last, None)


def as_type_of(default: Scalar, value: Scalar, name: str) -> Scalar:
    """A variable's value as given on a command line, in the type of its default."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if not isinstance(value, str) or isinstance(default, str):
        if type(value) is not type(default):
            raise ConfigError(f"variable {name!r} must be of type {type(default).__name__}, got {value!r}")
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                value.strip().lower()
            ]
        return type(default)(value)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"variable {name!r} must be of type {type(default).__name__}, got {value!r}") from error


def _problem(item: dict[str, Any], path: Path | None, lines: Lines, node: yaml.Node | None) -> Problem:
    """The problem of a pydantic error, with the file's line and key."""
    loc = tuple(part for part in item["loc"] if part != "[key]")
    if loc == ("answer", "grade", "by") and loc not in lines:  # written without the key
        loc = loc[:-1]
    key = ".".join(map(str, loc))
    message = validation.message(item)
    if item["type"] == "extra_forbidden":
        message = f"unknown key.{did_you_mean(str(loc[-1]), _keys(loc[:-1]))}"
    elif item["type"] == "missing":
        pass
    elif item["type"] == "literal_error":
        message = f"unknown key.{did_you_mean(str(loc[-1]), ROLES)}"
    else:
        message = f"{message} (got {item['input']!r:.80})"
        written = scalar_at(node, loc) if item["type"] == "string_type" else None
        if written is not None and item["input"] is not None:
            message = f"{message}: {as_written(written)}"
    return Problem(path, line_of(lines, loc), key, message)


def _keys(loc: tuple[str | int, ...]) -> list[str]:
    """Valid keys of the mapping at a place of the schema."""
    if loc and loc[0] == "sampling":
        return list(SamplingSpec.model_fields) if len(loc) > 1 else list(ROLES)
    return validation.keys_at(TaskFile, loc)
