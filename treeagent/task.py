"""The contract of a task: what prompts say, what a completion means, and which answers are right."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from . import registry
from .chat import Message
from .constraint import Constraint
from .data_source import DataSource
from .errors import ConfigError, InputError, Problem, did_you_mean
from .proposed_step import ProposedStep
from .request import DEFAULT_SAMPLING, Sampling
from .text import strip_breaks
from .thought import Thought
from .world import World

Role = Literal["propose", "sample", "value", "vote", "answer", "io", "cot", "critique", "outcome", "prm", "reflect"]
ROLES: tuple[str, ...] = get_args(Role)
"""What a prompt can ask for. ``propose``: a list of next steps; ``sample``: one next step; ``value``: a label for a
state; ``vote``: the best of several thoughts; ``answer``: the answer of a path; ``io``: the answer at once; ``cot``: a
chain of thought with its answer; ``critique``: what is right and wrong about a state, before a verdict; ``outcome``: a
label for a finished answer; ``prm``: the problem as a process reward model reads it, before the steps; ``reflect``:
why a finished path failed, for the prompts after it."""
LABELLED = ("value", "outcome")
"""Roles whose completions are a label."""

Scalar = str | int | float | bool
"""The types of a task's variables."""

_LOADER = "treeagent.taskfile.loader:load"
"""Loaded by name, because the contract stands below its implementations."""


class Task(ABC):
    """A kind of problem: its prompts, and what completions of them mean.

    A YAML file is the usual implementation (:class:`treeagent.YamlTask`); a subclass of this class is the other one.
    A subclass says what it is by class attributes (``name = "sums"``). If it is a dataclass, its fields are the task's
    variables, and ``--var`` sets them. The entry-point group ``treeagent.tasks`` registers it under a name.

    A task keeps no state between calls: several searches use one object at the same time. States, texts and answers
    are the strings that prompts show. No method sees a gold answer but :meth:`grade`, which no search calls.
    """

    # What it is

    @property
    @abstractmethod
    def name(self) -> str:
        """Letters, digits, ``-`` and ``_``."""

    @property
    @abstractmethod
    def examples(self) -> Sequence[str]:
        """Valid inputs, at least one."""

    @property
    @abstractmethod
    def roles(self) -> Sequence[str]:
        """The members of :data:`ROLES` that :meth:`prompt` can render."""

    @property
    def description(self) -> str:
        """One sentence for lists of tasks."""
        return ""

    @property
    def input_form(self) -> str:
        """What an input looks like, as a noun phrase: ``four whole numbers``."""
        return "a text"

    @property
    def version(self) -> int:
        """Raise it with every change that can change results: a journal of another version is not resumed."""
        return 1

    @property
    def variables(self) -> Mapping[str, Scalar]:
        """What the user has set or left at its default; a journal records it."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def labels(self) -> Mapping[str, float]:
        """The labels that completions of ``value`` may name, and the value of each; higher is better."""
        return {"sure": 20.0, "likely": 1.0, "impossible": 0.001}

    @property
    def evaluator(self) -> str:
        """The evaluator to use where the user names none."""
        return "value"

    @property
    def data(self) -> DataSource | None:
        """Where more inputs are; None where there are none."""
        return None

    @property
    def reference(self) -> str:
        """What :meth:`load` accepts to load this task again."""
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @property
    def digest(self) -> str | None:
        """Digest of everything that defines the task; None where that cannot be told."""
        return None

    def sampling(self, role: str) -> tuple[Sampling, int]:
        """How completions of a role are drawn, and how many."""
        return DEFAULT_SAMPLING[role]

    def with_sampling(self, changes: Mapping[str, Mapping[str, Any]]) -> Task:
        """A copy of this task whose :meth:`sampling` has other values.

        By role the changes of :meth:`Sampling.changed`, ``n``, and ``constrain``: whether :meth:`constraint` is kept.
        """

        def sampling(role: str) -> tuple[Sampling, int]:
            values, count = self.sampling(role)
            fields = {"n": count, **changes.get(role, {})}
            count, constrain = fields.pop("n"), fields.pop("constrain", None)
            values = values.changed(fields)
            if constrain:
                values = values.held_to(self.constraint(role, values.stop), whole=role in LABELLED)
            return (dataclasses.replace(values, constraint=None) if constrain is False else values), count

        copied = copy.copy(self)
        object.__setattr__(copied, "sampling", sampling)  # a task may be a frozen dataclass
        return copied

    def constraint(self, role: str, stop: Sequence[str]) -> Constraint:
        """What ``constrain`` holds a role to: labels, here; ``stop`` may end a text. Raises ConfigError for nothing."""
        if role in LABELLED:
            return Constraint.of_labels(self.labels, stop)
        raise ConfigError(f"the role {role!r} has nothing to constrain it to; give 'regex' or 'choices'")

    # From an input to prompts

    def read_input(self, text: str) -> str:
        """The input in the form that prompts show; reading it again changes nothing. Raises InputError.

        Blanks are the input's own: only the line breaks around it are left out.
        """
        if not text.strip():
            raise InputError(f"the input is empty; {self.name} expects {self.input_form}, such as {self.examples[0]!r}")
        return strip_breaks(text)

    chat_roles: Sequence[str] = ()
    """The roles of which :meth:`messages` returns any."""

    row: Mapping[str, Any] = MappingProxyType({})
    """The fields of a data row that :attr:`data` names, in a task that :meth:`for_row` returned; no gold answer."""

    def for_row(self, input: str, row: Mapping[str, Any] | None) -> Task:
        """A copy with the :attr:`row` of the input, None where it has none. InputError where a needed field lacks."""
        copied = copy.copy(self) if row else self
        if row:
            object.__setattr__(copied, "row", MappingProxyType(dict(row)))
        return copied

    reflections: Sequence[str] = ()
    """What was learnt from failed paths of this search, in a task that :meth:`with_reflections` returned."""

    def with_reflections(self, reflections: Sequence[str]) -> Task:
        """A copy whose prompts show :attr:`reflections`, oldest first."""
        copied = copy.copy(self)
        object.__setattr__(copied, "reflections", tuple(reflections))
        return copied

    def world(self, input: str) -> World | None:
        """What observes the steps of an input: a tool, a test, an environment. None where steps change nothing."""
        return None

    def state_key(self, state: str) -> str:
        """Equal keys are the same state, however it is written."""
        return state

    def root(self, input: str) -> Thought:
        """The thought that stands for an input, which :meth:`read_input` has returned.

        It is terminal where the input is solved as it stands: no search runs then, and the path is empty.
        """
        return Thought(0, None, "", input, self.state_key(input), 0)

    @abstractmethod
    def prompt(
        self, role: str, input: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """A role's prompt at a thought.

        ``steps`` are the texts from the first step to the thought. ``choices`` are the candidates of a ``vote``: the
        ``state``, ``text`` and ``steps`` of each. Raises ConfigError when it cannot be rendered.
        """

    def messages(
        self, role: str, input: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> Sequence[Message]:
        """The messages of a chat before a role's prompt, which is the last one then. Raises as :meth:`prompt`."""
        return ()

    # From completions to thoughts and answers

    @abstractmethod
    def read_thoughts(
        self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]
    ) -> list[ProposedStep]:
        """The steps that a completion of ``propose`` or ``sample`` proposes, in order; ``sample`` proposes at most one.

        A search calls this and :meth:`read_answer` in a thread, so that a text that takes long holds up nothing else.
        Illegal and unreadable steps are returned with their fault, so that they can be counted.
        """

    def whole_steps(self, role: str, completion: str) -> str:
        """The part of a growing completion whose steps no further text changes; empty where that cannot be told.

        A search calls this often and outside of a thread, to read a list of steps while it is being written.
        """
        return ""

    reads_apart = False
    """Whether each whole step of a ``propose`` is read as if it stood alone, and fast: so without a thread."""

    def read_answer(self, completion: str) -> str | None:
        """The answer in a completion of ``answer``, ``io`` or ``cot``; None when there is none."""
        return strip_breaks(completion) if completion.strip() else None

    def path_answer(self, input: str, thought: Thought, steps: Sequence[str]) -> str | None:
        """The answer of a path without a model, for tasks that lack the role ``answer``; None where it has none."""
        return "\n".join(steps) or None

    def answer_key(self, answer: str) -> str:
        """Answers with equal keys are one answer when votes are counted; white space around them does not count."""
        return answer.strip()

    # Which answers are right

    @property
    def can_verify(self) -> bool:
        """Whether :meth:`verify` can tell a right answer from the input alone."""
        return type(self).verify is not Task.verify

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool | None:
        """Whether the input is solved; the steps alone are checked when there is no answer yet.

        Only the input is known here, so a search may call it. None when the task cannot tell.
        """
        return None

    def grade(self, answer: str, gold: str) -> bool:
        """Whether an answer agrees with the gold answer. Raises ValueError for a gold answer that it cannot read."""
        return answer.strip() == gold.strip()

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """Whether a solution can still be reached from a state; None where that cannot be told.

        Evaluations measure evaluators against it; no search calls it. Raises ValueError for a state it cannot read.
        """
        return None

    # What others need of it

    def has(self, role: str) -> bool:
        """Whether there is a prompt for a role."""
        return role in self.roles

    def require(self, role: str, by: str) -> None:
        """Raise ConfigError when ``by``, such as ``the search 'io'``, needs a prompt that the task lacks."""
        if role not in ROLES:
            meant = did_you_mean(role, ROLES)
            raise ConfigError(f"{by} asks for the prompt {role!r}, but there is no such role.{meant}")
        if not self.has(role):
            raise ConfigError(f"{by} needs a prompt; {self.missing_prompt(role)}")

    def problem(self, key: str, message: str) -> Problem:
        """A fault of a key of the task's definition, such as ``data.input``, with its place where that is known."""
        return Problem(None, None, f"{self.name}: {key}", message)

    def missing_prompt(self, role: str) -> str:
        """The message for a role without a prompt."""
        return f"the task {self.name!r} has no prompt {role!r}"

    @staticmethod
    def load(name: str | Path, *, variables: Mapping[str, Scalar] | None = None, allow_code: bool = False) -> Task:
        """A registered task by name, a YAML file by path, or a class at ``package.module:Name``.

        ``allow_code`` permits code outside the registry: such a class, or a checker that a YAML file names so.
        Raises ConfigError, listing every problem, or UnknownNameError.
        """
        task: Task = registry.load("task loader", _LOADER, allow_code=True)(
            name, variables or {}, allow_code=allow_code
        )
        return task
