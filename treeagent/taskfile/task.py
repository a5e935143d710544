"""A task: its prompts, what a thought means, what is legal, what is the same state, what is terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..backend import Sampling
from ..checker import Checker
from ..errors import ConfigError, InputError, Problem, UnknownNameError, did_you_mean
from ..thought import Thought
from . import templates
from .schema import BLOCK, ROLES, Scalar, as_type_of, line_of, parse

STATE_FIELDS = frozenset({"input", "state", "steps", "depth"})
"""Fields of every prompt."""
THOUGHT_FIELDS = STATE_FIELDS | {"text", "parent"}
"""Fields of the templates that read a thought; the named groups of ``thought.pattern`` come on top."""

DEFAULT_SAMPLING: dict[str, tuple[Sampling, int]] = {
    "propose": (Sampling(temperature=0.7, max_tokens=512), 1),
    "sample": (Sampling(temperature=0.7, max_tokens=256), 5),
    "value": (Sampling(temperature=0.7, max_tokens=32), 3),
    "vote": (Sampling(temperature=0.7, max_tokens=32), 5),
    "answer": (Sampling(temperature=0.0, max_tokens=256), 1),
    "io": (Sampling(temperature=0.7, max_tokens=256), 1),
    "cot": (Sampling(temperature=0.7, max_tokens=512), 1),
}
"""Per role: how to draw a completion, and how many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a completion, read as the step it proposes."""

    text: str
    state: str
    key: str
    terminal: bool
    fault: str | None = None
    """None, ``unparsed`` (does not have a step's form) or ``illegal``."""


class Task:
    """A task file brought to life.

    Raises ConfigError, listing every problem, when the file or a variable is wrong.
    """

    def __init__(
        self,
        text: str,
        path: Path | None = None,
        *,
        variables: Mapping[str, Scalar] | None = None,
        allow_code: bool = False,
    ) -> None:
        self.spec, self._lines, problems = parse(text, path)
        self.path = path
        self.variables: dict[str, Scalar] = {**self.spec.variables}
        for name, value in (variables or {}).items():
            if name not in self.variables:
                raise ConfigError(
                    f"task {self.name!r} has no variable {name!r}.{did_you_mean(name, self.spec.variables)}"
                )
            self.variables[name] = as_type_of(self.variables[name], value, name)
        self._pattern = re.compile(self.spec.thought.pattern) if self.spec.thought.pattern else None
        self.checker = Checker()
        try:
            self.checker = self._load_checker(allow_code)
        except ConfigError as error:
            problems += error.problems
        problems += self._problems(problems)
        if problems:
            raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        variables: Mapping[str, Scalar] | None = None,
        allow_code: bool = False,
    ) -> Task:
        """A registered task by name, or a YAML file by path."""
        path = Path(name)
        if isinstance(name, Path) or path.suffix in (".yaml", ".yml") or "/" in str(name):
            try:
                text = path.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"cannot read the task file {path}: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"the task file {path} is not UTF-8 text ({error.reason} at byte {error.start})"
                ) from error
            return cls(text, path, variables=variables, allow_code=allow_code)
        files = registry.task_files()
        if name not in files:
            hint = " A path to a YAML file is accepted too; 'treeagent tasks new' writes one."
            raise UnknownNameError("task", str(name), files, hint)
        item = files[str(name)]
        return cls(item.read_text(encoding="utf-8"), Path(str(item)), variables=variables, allow_code=allow_code)

    @property
    def name(self) -> str:
        """The name in the file."""
        return self.spec.name

    @property
    def can_verify(self) -> bool:
        """Whether the checker can tell a right answer from the input alone."""
        return self.checker.verifies

    @property
    def labels(self) -> dict[str, float]:
        """The judge's scale."""
        return self.spec.evaluate.labels

    def has(self, role: str) -> bool:
        """Whether there is a prompt for a role."""
        return getattr(self.spec.prompts, role) is not None

    def sampling(self, role: str) -> tuple[Sampling, int]:
        """How completions of a role are drawn, and how many by default."""
        default, count = DEFAULT_SAMPLING[role]
        found = self.spec.sampling.get(role)  # type: ignore[call-overload]
        if found is None:
            return default, count
        given = {key: value for key, value in found.model_dump().items() if value is not None}
        count = given.pop("n", count)
        if "stop" in given:
            given["stop"] = tuple(given["stop"])
        return replace(default, **given), count

    def read_input(self, text: str) -> str:
        """The input in the form that prompts show. Raises InputError."""
        spec = self.spec.input
        trimmed = re.sub(r"[ \t]+", " ", text.strip())
        wanted = f"{self.name}, which wants {spec.description}, for example {_short(spec.examples[0])}"
        if not trimmed:
            raise InputError(f"the input is empty, so it is no input of {wanted}")
        if spec.pattern is not None and not re.fullmatch(spec.pattern, trimmed):
            raise InputError(f"{_short(trimmed)} is not an input of {wanted}")
        try:
            input = self.checker.read(templates.render(spec.normalise, {"input": trimmed, **self.variables}))
            self.checker.key(self.checker.start(input))  # raises ValueError where the checker cannot read it
            return input
        except ValueError as error:
            raise InputError(f"{_short(trimmed)} is not an input of {wanted} ({error})") from error
        except templates.FAULTS as fault:
            raise InputError(f"{_short(trimmed)} cannot be read by {self.name}: {templates.describe(fault)}") from fault

    def root(self, input: str) -> Thought:
        """The thought that stands for an input, which :meth:`read_input` has returned."""
        state = self.checker.start(input)
        return Thought(0, None, "", state, self.checker.key(state), 0)

    def prompt(self, role: str, input: str, thought: Thought, steps: Sequence[str], **more: Any) -> str:
        """A role's prompt at a thought. Raises ConfigError when the task has none or it cannot be rendered."""
        source = getattr(self.spec.prompts, role)
        if source is None:
            raise ConfigError(self._missing_prompt(role))
        return self._rendered(("prompts", role), source, input, thought, steps, more)

    def read_thoughts(
        self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]
    ) -> list[Piece]:
        """The steps a completion proposes, in order; ``sample`` proposes one."""
        pieces = [piece.strip() for piece in completion.split(self.spec.thought.separator)]
        pieces = [piece for piece in pieces if piece]
        return [self._read(piece, input, parent, steps) for piece in (pieces[:1] if role == "sample" else pieces)]

    def _read(self, text: str, input: str, parent: Thought, steps: Sequence[str]) -> Piece:
        spec = self.spec.thought
        groups: dict[str, Any] = {}
        if self._pattern is not None:
            match = self._pattern.fullmatch(text)
            if match is None:
                return Piece(text, parent.state, parent.key, False, "unparsed")
            groups = match.groupdict()
        depth = parent.depth + 1
        fields: dict[str, Any] = {"input": input, "text": text, "parent": parent.state, "depth": depth}
        fields |= {"steps": [*steps, text], "state": parent.state, **self.variables, **groups}
        try:
            after = self.checker.transition(parent.state, text) if self.checker.simulates else None
            if self.checker.simulates and after is None:
                return Piece(text, parent.state, parent.key, False, "illegal")
            state = templates.render(spec.state, fields) if after is None else after
            fields["state"] = state
            legal = templates.evaluate(spec.legal, fields) and self.checker.legal(parent.state, text, state)
            terminal = depth >= self.spec.depth or templates.evaluate(spec.terminal, fields)
            key = self.checker.key(state)
        except templates.FAULTS:
            return Piece(text, parent.state, parent.key, False, "unparsed")
        return Piece(text, state, key, terminal, None if legal else "illegal")

    def read_answer(self, completion: str) -> str | None:
        """The last answer in a completion; None when there is none."""
        matches = list(re.finditer(self.spec.answer.pattern, completion))
        if not matches:
            return None
        answer: str = matches[-1].groupdict().get("answer") or matches[-1].group(0)
        return answer.strip() or None

    def spelled(self, input: str, thought: Thought, steps: Sequence[str]) -> str | None:
        """The answer of a path by ``answer.template``, without asking a model; None where the template says nothing."""
        return (
            self._rendered(("answer", "template"), self.spec.answer.template, input, thought, steps, {}).strip() or None
        )

    def same_answer(self, answer: str) -> str:
        """Answers with equal results are one answer when votes are counted; one that has no result is its own."""
        try:
            return templates.render(self.spec.answer.same, {"answer": answer, **self.variables})
        except templates.FAULTS:
            return answer

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool | None:
        """Whether the input is solved; None when the task cannot tell."""
        return self.checker.verify(input, steps, answer) if self.can_verify else None

    def require(self, role: str, by: str) -> None:
        """Raises ConfigError when ``by`` needs a prompt that the task lacks."""
        if role not in ROLES:
            raise ConfigError(
                f"{by} asks for the prompt {role!r}, but there is no such role.{did_you_mean(role, ROLES)}"
            )
        if not self.has(role):
            raise ConfigError(f"{by} needs a prompt; {self._missing_prompt(role)}")

    def _problems(self, known: Sequence[Problem]) -> list[Problem]:
        """What else shows to be wrong without a model: names, templates and, with no other fault, rendered examples."""
        found: list[Problem] = []
        variables = set(self.spec.variables)
        groups = set(self._pattern.groupindex) if self._pattern else set()
        if self.checker.simulates and "state" in self.spec.thought.model_fields_set:
            message = f"the checker {self.spec.checker!r} computes the states itself; remove this key"
            found.append(self._problem(("thought", "state"), message))
        for name in sorted(variables & (THOUGHT_FIELDS | {"choices", "answer"})):
            found.append(self._problem(("variables", name), "the name is taken by a built-in field"))
        places: list[tuple[tuple[str, str], str, frozenset[str], bool]] = [
            (("input", "normalise"), self.spec.input.normalise, frozenset({"input"}), False),
            (("thought", "state"), self.spec.thought.state, THOUGHT_FIELDS | groups, False),
            (("thought", "legal"), self.spec.thought.legal, THOUGHT_FIELDS | groups, True),
            (("thought", "terminal"), self.spec.thought.terminal, THOUGHT_FIELDS | groups, True),
            (("answer", "template"), self.spec.answer.template, STATE_FIELDS, False),
            (("answer", "same"), self.spec.answer.same, frozenset({"answer"}), False),
        ]
        for role in ROLES:
            if self.has(role):
                names = STATE_FIELDS | {"choices"} if role == "vote" else STATE_FIELDS
                places.append((("prompts", role), getattr(self.spec.prompts, role), names, False))
        for loc, source, names, expression in places:
            for line, message in templates.faults(source, {*names, *variables}, expression=expression):
                found.append(self._problem(loc, message, line))
        if not any(self.has(role) for role in ROLES if role not in ("value", "vote", "answer")):
            found.append(
                self._problem(("prompts",), "no search can use a task without one of propose, sample, io, cot")
            )
        faulty = {problem.key for problem in known}
        if "thought.pattern" in faulty:  # the names of its groups are not known
            found = [problem for problem in found if not problem.key.startswith("thought.")]
        return found if found or known else self._rendered_problems()

    def _rendered_problems(self) -> list[Problem]:
        found = []
        for index, example in enumerate(self.spec.input.examples):
            try:
                input = self.read_input(example)
                root = self.root(input)
            except (InputError, ValueError) as error:
                found.append(self._problem(("input", "examples", index), str(error)))
                continue
            for role in ROLES:
                if self.has(role):
                    try:
                        self.prompt(role, input, root, [], choices=[{"state": root.state, "text": "", "steps": []}])
                    except ConfigError as error:
                        found.extend(problem for problem in error.problems if problem not in found)
        return found

    def _rendered(
        self,
        loc: tuple[str, str],
        source: str,
        input: str,
        thought: Thought,
        steps: Sequence[str],
        more: Mapping[str, Any],
    ) -> str:
        """A template over the fields of a thought. Raises ConfigError naming the place ``loc``."""
        fields = {
            "input": input,
            "state": thought.state,
            "steps": list(steps),
            "depth": thought.depth,
            **self.variables,
        }
        try:
            return templates.render(source, {**fields, **more})
        except templates.FAULTS as fault:
            raise ConfigError([self._problem(loc, templates.describe(fault))]) from fault

    def _load_checker(self, allow_code: bool) -> Checker:
        name = self.spec.checker
        if name is None:
            return Checker()
        if ":" in name and not allow_code:
            message = f"{name!r} is code outside the registry; run it with --allow-code if you trust this file"
            raise ConfigError([self._problem(("checker",), message)])
        try:
            checker = registry.load("checker", name)
        except ConfigError as error:
            raise ConfigError([self._problem(("checker",), str(error))]) from error
        if not (isinstance(checker, type) and issubclass(checker, Checker)):
            raise ConfigError([self._problem(("checker",), f"{name!r} is not a treeagent.Checker")])
        return checker()

    def _problem(self, loc: tuple[str | int, ...], message: str, line_within: int = 0) -> Problem:
        line, block = line_of(self._lines, loc), self._lines.get((*loc, BLOCK))
        if line_within and block is not None:
            line = block + line_within
        return Problem(self.path, line, ".".join(map(str, loc)), message)

    def _missing_prompt(self, role: str) -> str:
        return f"the task {self.name!r} has no prompt 'prompts.{role}'" + (f" ({self.path})" if self.path else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
