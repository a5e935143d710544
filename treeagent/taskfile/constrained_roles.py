"""The sampling of each role of a task file, with the constraint that its keys say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec

from ..constraint import Constraint
from ..errors import ConfigError, Problem
from ..patterns import Pattern
from ..request import Sampling
from ..task import DEFAULT_SAMPLING
from .key_lines import KeyLines
from .schema import SamplingSpec, TaskFile

_KEYS = ("constrain", "regex", "choices", "json_schema")
_STEPS, _LABELS, _ANSWERS = ("propose", "sample"), ("value", "outcome"), ("answer", "io")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_NAMED = re.compile(r"(?<!\\)\(\?P<\w+>")


def role_sampling(spec: TaskFile, role: str) -> tuple[Sampling, int]:
    """``sampling.ROLE`` on top of the role's defaults, and the number of completions. Raises ConfigError."""
    own = spec.sampling.get(role)  # type: ignore[call-overload]
    if own is None:
        return DEFAULT_SAMPLING[role]
    sampling, count = own.over(*DEFAULT_SAMPLING[role])
    constraint = _constraint(spec, role, own, sampling.stop)
    return (sampling if constraint is None else replace(sampling, constraint=constraint)), count


def problems(spec: TaskFile, keys: KeyLines, faulty: set[str]) -> Iterator[Problem]:
    """Settings of a role that contradict each other, and constraints that cannot be kept.

    ``faulty`` names the keys that have been reported already, in dotted form.
    """
    for role, own in spec.sampling.items():
        given = [name for name in _KEYS if getattr(own, name) not in (None, False)]
        if len(given) > 1:
            yield keys.problem(
                ("sampling", role, given[1]), f"the role has {given[0]!r} already; leave one of them out"
            )
            continue
        if own.constrain and f"{_source(role)}.pattern" in faulty:
            continue
        try:
            sampling, _ = role_sampling(spec, role)
        except (ConfigError, ValueError) as error:
            yield keys.problem(("sampling", role, given[0]), str(error))
            continue
        if fault := sampling.contradiction():
            name = given[0] if fault[0] == "constraint" and given else fault[0]
            yield keys.problem(("sampling", role, name), fault[1])
        elif sampling.constraint is not None and (reason := _refusal(sampling.constraint)):
            whose = f"{_source(role)}.pattern cannot be a constraint" if given[0] == "constrain" else "no constraint"
            yield keys.problem(("sampling", role, given[0]), f"{whose}: {reason}")


def _constraint(spec: TaskFile, role: str, own: SamplingSpec, stop: Sequence[str]) -> Constraint | None:
    """Raises ConfigError or ValueError for one that cannot be."""
    if own.regex is not None:
        Pattern(own.regex)
        return Constraint("regex", own.regex)
    if own.choices is not None:
        return Constraint.of_choices(own.choices)
    if own.json_schema is not None:
        return Constraint("json_schema", json.dumps(own.json_schema, ensure_ascii=False))
    if not own.constrain:
        return None
    if role in _LABELS:
        text = " ?(?:" + "|".join(map(_literal, spec.evaluate.labels)) + ")"
    elif role in _STEPS and spec.thought.pattern is not None:
        text = step = _unnamed(spec.thought.pattern)
        if role == "propose":
            text = f"{step}(?:{_literal(spec.thought.separator)}{step})*"
    elif role in _ANSWERS and "pattern" in spec.answer.model_fields_set:
        text = " ?" + _unnamed(spec.answer.pattern)
    else:
        lacking = f"{_source(role)}.pattern is not given" if role in _STEPS + _ANSWERS else "it has no pattern"
        raise ConfigError(f"the role {role!r} has nothing to constrain it to: {lacking}; give 'regex' or 'choices'")
    ends = "|".join(map(_literal, stop))  # a model may end a text by a stop string where it would end it
    return Constraint("regex", f"{text}(?:{ends})?" if ends else text)


def _source(role: str) -> str:
    return "thought" if role in _STEPS else "answer" if role in _ANSWERS else "evaluate.labels, not a"


def _unnamed(pattern: str) -> str:
    """As a group within a larger pattern: without names, which would be there twice, and with its flags inside."""
    flags = _FLAGS.match(pattern)
    inner = _NAMED.sub("(?:", pattern[flags.end() :] if flags else pattern)
    return f"(?{flags[1] if flags else ''}:{inner})"


def _literal(text: str) -> str:
    return re.escape(text).replace("\\\n", "\\n").replace("\\ ", " ")


def _refusal(constraint: Constraint) -> str | None:
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
