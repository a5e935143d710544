"""A task that is a YAML file: templates for prompts, patterns and expressions for what completions mean."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..chat import Message
from ..checker import Checker, load_checker
from ..constraint import Constraint
from ..data_source import DataSource
from ..errors import ConfigError, Problem
from ..patterns import Pattern, PatternLimitError
from ..proposed_step import ProposedStep
from ..request import Sampling
from ..task import ROLES, Scalar, Task
from ..text import split_off, strip_breaks
from ..thought import Thought
from . import example_check, templates, validation
from .answer_grading import AnswerGrading
from .checked_world import CheckedWorld
from .constrained_roles import role_constraint, role_sampling
from .input_reader import read_input
from .key_lines import KeyLines, Loc
from .row_binding import RowBinding
from .schema import parse
from .step_reader import StepReader
from .variable_values import variable_values


class YamlTask(Task):
    """A task from the text of a YAML file; ``path`` is the file, for messages and for its data.

    Raises ConfigError, listing every problem, when the file or a variable is wrong.
    """

    def __init__(
        self, text: str, path: Path | None = None, *, variables: Mapping[str, Scalar] | None = None,
        allow_code: bool = False,
    ) -> None:  # fmt: skip
        self.spec, lines, problems = parse(text, path)
        self.path = path
        self.keys = KeyLines(path, lines)
        """Where each key stands, for messages."""
        self._variables = variable_values(self.spec, variables or {})
        self._pattern = Pattern(self.spec.thought.pattern) if self.spec.thought.pattern else None
        self.checker = Checker()
        """The exact checks that YAML cannot express; it checks nothing where the file names none."""
        try:
            self.checker = load_checker(self.spec.checker, allow_code=allow_code)
        except ConfigError as error:
            problems.append(self.keys.problem(("checker",), str(error)))
        problems += validation.code_problems(self.spec, self.keys, allow_code=allow_code)
        faulty = {problem.key for problem in problems}
        problems += validation.problems(self.spec, self._pattern, self.checker, self.keys, faulty)
        self.reads_apart = type(self.checker) is Checker or self.checker.brief  # patterns and templates are limited
        grade = self.spec.answer.grade
        self._grading = None if grade is None else AnswerGrading(grade, self._variables, self.keys)
        if not problems:
            try:
                self._rows = RowBinding.of(self.spec, self._folder, self.keys, self.read_input)
                problems = example_check.problems(self, self.keys)
            except ConfigError as error:
                problems = list(error.problems)
        if problems:
            raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))

    @property
    def name(self) -> str:
        """``name``."""
        return self.spec.name

    @property
    def examples(self) -> Sequence[str]:
        """``input.examples``."""
        return self.spec.input.examples

    @property
    def roles(self) -> Sequence[str]:
        """The keys of ``prompts``."""
        return [role for role in ROLES if getattr(self.spec.prompts, role) is not None]

    @property
    def description(self) -> str:
        """``description``."""
        return self.spec.description

    @property
    def input_form(self) -> str:
        """``input.description``."""
        return self.spec.input.description

    @property
    def version(self) -> int:
        """``metadata.version``."""
        return self.spec.metadata.version

    @property
    def variables(self) -> Mapping[str, Scalar]:
        """``variables``, as the user has set them."""
        return self._variables

    @property
    def labels(self) -> Mapping[str, float]:
        """``evaluate.labels``."""
        return self.spec.evaluate.labels

    @property
    def evaluator(self) -> str:
        """``evaluate.by``."""
        return self.spec.evaluate.by

    @property
    def data(self) -> DataSource | None:
        """``data``."""
        spec = self.spec.data
        return None if spec is None else spec.source(self._folder)

    @property
    def _folder(self) -> Path:
        return self.path.parent if self.path else Path()

    @property
    def shots_digest(self) -> str | None:
        """Digest of the few-shot examples; None where the file names none."""
        return None if self._rows.shots is None else self._rows.shots.digest

    @property
    def reference(self) -> str:
        """The file's path; the name where there is no file."""
        return str(self.path.resolve()) if self.path else self.name

    @property
    def digest(self) -> str | None:
        """Of the file's bytes; None where there is no file."""
        return None if self.path is None else hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def sampling(self, role: str) -> tuple[Sampling, int]:
        """``sampling.ROLE`` on top of the role's defaults."""
        return role_sampling(self.spec, role)

    def constraint(self, role: str, stop: Sequence[str]) -> Constraint:
        """By ``constraints``, else what the role is read by."""
        return role_constraint(self.spec, role, stop)

    # From an input to prompts

    def read_input(self, text: str) -> str:
        """As ``input.pattern``, ``input.normalise`` and the checker say. Raises InputError."""
        return read_input(text, self.spec.input, self.name, self.checker, self._variables)

    def for_row(self, input: str, row: Mapping[str, Any] | None) -> YamlTask:
        """A copy whose templates, checker and grading see the row; an example of the task has its row in the file."""
        rows = self._rows.bound(self.name, input, row)
        copied = copy.copy(self)
        copied._rows, copied.row = rows, MappingProxyType(dict(rows.row))
        copied.checker = self.checker.for_row(rows.row)
        return copied

    def _checker_of(self, input: str) -> Checker:
        return self.checker.for_row(self._rows.row_of(input))

    def fields_of(self, input: str) -> dict[str, Any]:
        """Fields of templates that no thought changes."""
        return {**self._rows.fields(input), **self._variables}

    def state_key(self, state: str) -> str:
        """The checker's key."""
        return self.checker.key(state)

    def root(self, input: str) -> Thought:
        """With the checker's first state; terminal where it is a final one and the checker verifies it."""
        checker = self._checker_of(input)
        state = checker.start(input)
        root = Thought(0, None, "", state, checker.key(state), 0)
        return replace(root, terminal=True) if self.can_verify and self._solved(input, root) else root

    def _solved(self, input: str, root: Thought) -> bool:
        """Whether an input needs no step."""
        fields = {"input": input, "text": "", "parent": "", "depth": 0, "steps": [], "state": root.state}
        try:
            if not templates.evaluate(self.spec.thought.terminal, {**fields, **self.fields_of(input)}):
                return False
            return bool(self.verify(input, [], self.path_answer(input, root, [])))
        except (*templates.FAULTS, ConfigError):  # an expression about the groups or the texts of steps
            return False

    def prompt(
        self, role: str, input: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """``prompts.ROLE``, its last message. Raises ConfigError when there is none or it cannot be rendered."""
        return next(self._messages(role, slice(-1, None), input, thought, steps, choices)).content

    def messages(
        self, role: str, input: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[Message, ...]:
        """``prompts.ROLE.system`` and the messages before the last one. Raises ConfigError likewise."""
        return tuple(self._messages(role, slice(-1), input, thought, steps, choices))

    def _messages(self, role: str, which: slice, *about: Any) -> Iterator[Message]:
        input, thought, steps, choices = about
        more = {"choices": choices, "answer": thought.answer or ""}
        if role == "outcome" and thought.answer is None:
            more["answer"] = self.path_answer(input, thought, steps) or ""
        if not (parts := self.spec.prompts.parts(role)):
            raise ConfigError(self.missing_prompt(role))
        for speaker, place, source in parts[which]:
            yield Message(speaker, self._rendered(("prompts", role, *place), source, input, thought, steps, more))

    @property
    def chat_roles(self) -> Sequence[str]:  # type: ignore[override]  # as the file says
        """Roles with a system prompt or several messages."""
        return [role for role in self.roles if len(self.spec.prompts.parts(role)) > 1]

    def world(self, input: str) -> CheckedWorld | None:
        """What the key ``observe`` and the checker act on; None where they act on nothing."""
        return CheckedWorld.of(self.spec.observe, self._checker_of(input), self.fields_of(input), self.keys)

    # From completions to thoughts and answers

    def read_thoughts(
        self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]
    ) -> list[ProposedStep]:
        """The steps a completion proposes, in order; ``sample`` proposes one."""
        reader = StepReader(self.spec, self._pattern, self._checker_of(input), self.fields_of(input), self.keys)
        return reader.read(role, completion, input, parent, steps)

    def whole_steps(self, role: str, completion: str) -> str:
        """Up to the last separator: what follows it may grow."""
        return split_off(completion, self.spec.thought.separator)

    def read_answer(self, completion: str) -> str | None:
        """The last answer in a completion; None when there is none, or where its pattern takes too long."""
        try:
            answer = Pattern(self.spec.answer.pattern).last(completion, "answer")
        except PatternLimitError:
            return None
        return strip_breaks(answer) if answer and answer.strip() else None

    def path_answer(self, input: str, thought: Thought, steps: Sequence[str]) -> str | None:
        """The answer of a path by ``answer.template``, without asking a model; None where the template says nothing."""
        answer = self._rendered(("answer", "template"), self.spec.answer.template, input, thought, steps, {})
        return strip_breaks(answer) if answer.strip() else None

    def answer_key(self, answer: str) -> str:
        """Answers with equal results are one answer when votes are counted; one that has no result is its own."""
        own = None if "same" in self.spec.answer.model_fields_set else self._grading
        if own is not None and (key := own.key(answer, self.row)) is not None:
            return key
        try:
            fields = {"answer": answer, "row": dict(self.row), **self._variables}
            return templates.render(self.spec.answer.same, fields)
        except templates.FAULTS:
            return answer

    # Which answers are right

    @property
    def can_verify(self) -> bool:
        """Whether the checker can."""
        return self.checker.verifies

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool | None:
        """The checker's verdict; None when it cannot verify."""
        return self._checker_of(input).verify(input, steps, answer) if self.can_verify else None

    def grade(self, answer: str, gold: str) -> bool:
        """As ``answer.grade`` says, else the checker. Raises ValueError for a gold answer that cannot be read."""
        if self._grading is not None:
            return self._grading.agrees(answer, gold, self.row)
        return self.checker.grade(answer, gold)

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """The checker's verdict. Raises ValueError for a state that it cannot read."""
        return self._checker_of(input).is_promising(input, steps, state)

    def problem(self, key: str, message: str) -> Problem:
        """With the file and the line of the key."""
        return self.keys.problem(tuple(key.split(".")), message)

    def missing_prompt(self, role: str) -> str:
        """With the key and the file."""
        return f"the task {self.name!r} has no prompt 'prompts.{role}'" + (f" ({self.path})" if self.path else "")

    def _rendered(
        self, loc: Loc, source: str, input: str, thought: Thought, steps: Sequence[str], more: Mapping[str, Any]
    ) -> str:
        """A template over the fields of a thought. Raises ConfigError naming the place ``loc``."""
        fields = {"input": input, "state": thought.state, "steps": list(steps), "depth": thought.depth}
        try:
            return templates.render(
                source, {**fields, "reflections": list(self.reflections), **self.fields_of(input), **more}
            )
        except templates.FAULTS as fault:
            raise ConfigError([self.keys.problem(loc, templates.describe(fault))]) from fault
