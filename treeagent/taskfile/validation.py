"""Faults of a task file that show without an input: keys that contradict each other, and faulty templates."""

from __future__ import annotations

from collections.abc import Iterator

from .. import registry
from ..checker import Checker
from ..errors import ConfigError, Problem
from ..evaluator import Evaluator
from ..patterns import Pattern
from . import constrained_roles, row_fields, templates
from .key_lines import KeyLines, Loc
from .schema import TaskFile

STATE_FIELDS = frozenset({"input", "state", "steps", "depth"})
"""Fields of every prompt."""
THOUGHT_FIELDS = STATE_FIELDS | {"text", "parent"}
"""Fields of the templates that read a thought; the named groups of ``thought.pattern`` come on top."""


def problems(
    spec: TaskFile, pattern: Pattern | None, checker: Checker, keys: KeyLines, faulty: set[str]
) -> list[Problem]:
    """All such faults. ``faulty`` names the keys that have been reported already, in dotted form."""
    faults = [*_contradictions(spec, checker, keys), *_template_problems(spec, pattern, keys)]
    faults += [*row_fields.problems(spec, keys), *constrained_roles.problems(spec, keys, faulty)]
    if "thought.pattern" in faulty:  # the names of its groups are not known
        faults = [problem for problem in faults if not problem.key.startswith("thought.")]
    return faults


def _contradictions(spec: TaskFile, checker: Checker, keys: KeyLines) -> Iterator[Problem]:
    if checker.simulates and "state" in spec.thought.model_fields_set:
        message = f"the checker {spec.checker!r} computes the states itself; remove this key"
        yield keys.problem(("thought", "state"), message)
    given = spec.observe.model_fields_set
    if "observe" in spec.model_fields_set and not checker.observes and spec.observe.server is None:
        whose = "a checker, which this file lacks" if spec.checker is None else f"the checker {spec.checker!r}"
        message = f"nothing is observed: that needs a method 'observe' of {whose}, or 'server' and 'tool'"
        yield keys.problem(("observe",), message)
    elif ("server" in given) != ("tool" in given):
        yield keys.problem(("observe",), "'server' and 'tool' need each other")
    if spec.answer.grade is not None and checker.grades:
        message = f"the checker {spec.checker!r} grades answers itself; remove this key"
        yield keys.problem(("answer", "grade"), message)
    taken = THOUGHT_FIELDS | {"choices", "answer"} | _row(spec) | _shots(spec) | _reflections(spec)
    taken |= set() if "observe" not in spec.model_fields_set else {"observation"}
    taken |= set() if spec.answer.grade is None else {"gold", "row"}
    for name in sorted(set(spec.variables) & taken):
        yield keys.problem(("variables", name), "the name is taken by a built-in field")
    if not any(getattr(spec.prompts, role) is not None for role in ("propose", "sample", "io", "cot")):
        yield keys.problem(("prompts",), "no search can use a task without one of propose, sample, io, cot")


def _template_problems(spec: TaskFile, pattern: Pattern | None, keys: KeyLines) -> Iterator[Problem]:
    """Syntax errors and unknown variables of all templates and expressions."""
    groups = (pattern.groups if pattern else frozenset[str]()) | _row(spec)
    state = STATE_FIELDS | _row(spec)
    places: list[tuple[Loc, str, frozenset[str], bool]] = [
        (("input", "normalise"), spec.input.normalise, frozenset({"input"}), False),
        (("thought", "state"), spec.thought.state, THOUGHT_FIELDS | groups, False),
        (("thought", "legal"), spec.thought.legal, THOUGHT_FIELDS | groups, True),
        (("thought", "terminal"), spec.thought.terminal, THOUGHT_FIELDS | groups, True),
        (("observe", "state"), spec.observe.state, THOUGHT_FIELDS | _row(spec) | {"observation"}, False),
        (("observe", "terminal"), spec.observe.terminal, THOUGHT_FIELDS | _row(spec) | {"observation"}, True),
        (("observe", "tool"), spec.observe.tool, _STEP | _row(spec), False),
        (("observe", "arguments"), spec.observe.arguments, _STEP | _row(spec), False),
        (("answer", "template"), spec.answer.template, state, False),
        (("answer", "same"), spec.answer.same, frozenset({"answer"}) | _row(spec), False),
    ]
    grade = spec.answer.grade
    if grade is not None and grade.rule is None:
        places.append((("answer", "grade"), grade.by, frozenset({"answer", "gold"}) | _row(spec), True))
    if grade is not None and grade.options is not None:
        places.append((("answer", "grade", "options"), grade.options, _row(spec), True))
    for role, place, source in spec.prompts.templates():
        names = state | _shots(spec) | _reflections(spec) | _OWN_FIELDS.get(role, frozenset())
        places.append((place, source, names, False))
    for loc, source, names, expression in places:
        for line, message in templates.faults(source, {*names, *spec.variables}, expression=expression):
            yield keys.problem(loc, message, line)


_STEP = frozenset({"text", "parent"})
"""Fields of the templates of a tool's call."""
_OWN_FIELDS = {"vote": frozenset({"choices"}), "outcome": frozenset({"answer"})}
"""Fields that the prompt of one role has alone."""


def _row(spec: TaskFile) -> frozenset[str]:
    """The field ``row``, where the file names fields of its data."""
    return frozenset({"row"} if spec.data is not None and spec.data.fields else ())


def _shots(spec: TaskFile) -> frozenset[str]:
    """The field ``shots`` of prompts, where the file names examples."""
    return frozenset({"shots"} if spec.data is not None and spec.data.shots is not None else ())


def _reflections(spec: TaskFile) -> frozenset[str]:
    """The field ``reflections`` of prompts, where the file has a prompt that writes them."""
    return frozenset() if spec.prompts.reflect is None else frozenset({"reflections"})


def code_problems(spec: TaskFile, keys: KeyLines, *, allow_code: bool) -> Iterator[Problem]:
    """An evaluator in ``evaluate.by`` that does not exist, and code that is not allowed: it, or a server."""
    if spec.observe.server is not None:
        if not allow_code:
            message = "a server is code outside the registry; run it with --allow-code (allow_code=True in Python) if "
            yield keys.problem(("observe", "server"), f"{message}you trust it")
        else:
            try:
                _ = spec.observe.tool_server
            except ConfigError as error:
                yield keys.problem(("observe", "server"), str(error))
    if reason := registry.fault("evaluator", spec.evaluate.by, Evaluator, allow_code=allow_code):
        yield keys.problem(("evaluate", "by"), reason)
