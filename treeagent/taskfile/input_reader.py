"""Reads an input of a YAML task: matched with its pattern, normalised, and read by its checker."""

from __future__ import annotations

from collections.abc import Mapping

from ..checker import Checker
from ..errors import InputError
from ..patterns import Pattern, PatternLimitError
from ..task import Scalar
from ..text import single_blanks, strip_breaks
from . import templates
from .schema import InputSpec


def read_input(text: str, spec: InputSpec, task: str, checker: Checker, variables: Mapping[str, Scalar]) -> str:
    """The input of the task called ``task`` in its normal form.

    Only the line breaks around it are left out; what else is to go, the task says by its pattern (a text that matches
    with single blanks alone is read so), by ``spec.normalise`` or by its checker. Raises InputError.
    """
    trimmed = strip_breaks(text)
    wanted = f"{task}, which wants {spec.description}, for example {_short(spec.examples[0])}"
    if not trimmed.strip():
        raise InputError(f"the input is empty, so it is no input of {wanted}")
    try:
        pattern = None if spec.pattern is None else Pattern(spec.pattern)
        if pattern is not None and pattern.fullmatch(trimmed) is None:
            given, trimmed = trimmed, single_blanks(trimmed)
            if pattern.fullmatch(trimmed) is None:
                raise InputError(f"{_short(given)} is not an input of {wanted}")
        input = checker.read(templates.render(spec.normalise, {"input": trimmed, **variables}))
        checker.key(checker.start(input))  # raises ValueError where the checker cannot read it
        return input
    except ValueError as error:
        raise InputError(f"{_short(trimmed)} is not an input of {wanted} ({error})") from error
    except PatternLimitError as error:
        raise InputError(f"{_short(trimmed)} cannot be read by {task}: input.pattern: {error}") from error
    except templates.FAULTS as fault:
        raise InputError(f"{_short(trimmed)} cannot be read by {task}: {templates.describe(fault)}") from fault


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
