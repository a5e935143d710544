"""The sampling of each role of a task file, with the constraint that its keys say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from ..constraint import OPTIONS, Constraint, literal
from ..errors import ConfigError, Problem
from ..request import DEFAULT_SAMPLING, Sampling
from ..task import LABELLED
from .key_lines import KeyLines
from .schema import TaskFile

_STEPS, _ANSWERS = ("propose", "sample"), ("answer", "io")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_NAMED = re.compile(r"(?<!\\)\(\?P<\w+>")


def role_sampling(spec: TaskFile, role: str) -> tuple[Sampling, int]:
    """``sampling.ROLE`` on top of the role's defaults, and the number of completions. Raises ConfigError."""
    own = spec.sampling.get(role)  # type: ignore[call-overload]
    if own is None:
        return DEFAULT_SAMPLING[role]
    sampling, count = own.over(*DEFAULT_SAMPLING[role])
    if own.constrain and sampling.constraint is None:
        sampling = sampling.held_to(role_constraint(spec, role, sampling.stop), whole=role in LABELLED)
    return sampling, count


def problems(spec: TaskFile, keys: KeyLines, faulty: set[str]) -> Iterator[Problem]:
    """Settings of a role that contradict each other, and constraints that cannot be kept.

    ``faulty`` names the keys that have been reported already, in dotted form.
    """
    for role, pattern in spec.constraints.items():
        if reason := refusal(Constraint("regex", pattern)):
            faulty = {*faulty, f"constraints.{role}"}
            yield keys.problem(("constraints", role), f"cannot be a constraint: {reason}")
    for role, own in spec.sampling.items():
        given = [name for name in OPTIONS if getattr(own, name) not in (None, False)]
        if len(given) > 1:
            yield keys.problem(
                ("sampling", role, given[1]), f"the role has {given[0]!r} already; leave one of them out"
            )
            continue
        if own.constrain and _source(spec, role) in faulty:
            continue
        try:
            sampling, _ = role_sampling(spec, role)
        except (ConfigError, ValueError) as error:
            yield keys.problem(("sampling", role, given[0]), str(error))
            continue
        if fault := sampling.contradiction():
            name = given[0] if fault[0] == "constraint" and given else fault[0]
            yield keys.problem(("sampling", role, name), fault[1])
        elif sampling.constraint is not None and (reason := refusal(sampling.constraint)):
            whose = f"{_source(spec, role)} cannot be a constraint" if given[0] == "constrain" else "no constraint"
            yield keys.problem(("sampling", role, given[0]), f"{whose}: {reason}")


def role_constraint(spec: TaskFile, role: str, stop: Sequence[str]) -> Constraint:
    """What ``constrain: true`` holds a role to: its pattern in ``constraints``, else what it is read by.

    ``propose`` lists steps of ``sample``, and ``io`` gives an ``answer``, perhaps after a blank. Raises ConfigError
    where there is neither.
    """
    own = None if role == "answer" else spec.constraints.get(role)  # type: ignore[call-overload]
    if role in LABELLED and own is None:
        return Constraint.of_labels(spec.evaluate.labels, stop)
    if own is None and role == "propose" and (step := _step(spec)) is not None:
        own = f"{step}(?:{literal(spec.thought.separator)}{step})*"
    elif own is None and role == "sample":
        own = _step(spec)
    elif own is None and role in _ANSWERS and (answer := _answer(spec)) is not None:
        own = " ?" + answer
    if own is None:
        lacking = f"{_source(spec, role)} is not given" if role in _STEPS + _ANSWERS else "it has no pattern"
        raise ConfigError(f"the role {role!r} has nothing to constrain it to: {lacking}; give 'regex' or 'choices'")
    return Constraint.of_regex(own, stop)


def _step(spec: TaskFile) -> str | None:
    """Of one step, as a group."""
    pattern = spec.constraints.get("sample", spec.thought.pattern)
    return None if pattern is None else _unnamed(pattern)


def _answer(spec: TaskFile) -> str | None:
    """Of an answer, as a group."""
    own = spec.constraints.get("answer")
    if own is None and "pattern" in spec.answer.model_fields_set:
        own = spec.answer.pattern
    return None if own is None else _unnamed(own)


def _source(spec: TaskFile, role: str) -> str:
    """The key of the pattern that a role is constrained to."""
    given = (role, *(name for names, name in ((_STEPS, "sample"), (_ANSWERS, "answer")) if role in names))
    if (own := next((name for name in given if name in spec.constraints), None)) is not None:
        return f"constraints.{own}"
    return "thought.pattern" if role in _STEPS else "answer.pattern" if role in _ANSWERS else "evaluate.labels"


def _unnamed(pattern: str) -> str:
    """As a group within a larger pattern: without names, which would be there twice, and with its flags inside."""
    flags = _FLAGS.match(pattern)
    inner = _NAMED.sub("(?:", pattern[flags.end() :] if flags else pattern)
    return f"(?{flags[1] if flags else ''}:{inner})"


def refusal(constraint: Constraint) -> str | None:
    """Why the library that masks tokens refuses it; None where it takes it or is not installed."""
    if find_spec("llguidance") is None:
        return None
    from llguidance import LLMatcher  # noqa: PLC0415  # an extra

    if constraint.kind == "regex":
        grammar = LLMatcher.grammar_from_regex(constraint.text)
    elif constraint.kind == "json_schema":
        grammar = LLMatcher.grammar_from_json_schema(json.loads(constraint.text))
    else:
        return None
    fault: str = LLMatcher.validate_grammar(grammar, None)
    reason = fault.rpartition("error: ")[2].rpartition("(in regex): ")[2]  # without the pattern, which it repeats
    return " ".join(reason.partition("\n")[0].split()) or None
