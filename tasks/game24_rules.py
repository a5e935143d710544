"""Exact arithmetic of the Game of 24: states, legal steps, solvability. No floats anywhere."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import NamedTuple

State = tuple[Fraction, ...]
"""The numbers left, ascending."""

TARGET = Fraction(24)
_NUMBER = re.compile(r"-?[0-9]{1,20}(/[0-9]{1,20})?")  # four numbers up to 13 never need as many digits


class ArithmeticStep(NamedTuple):
    """One legal combination of two numbers of a state."""

    left: Fraction
    op: str
    right: Fraction
    result: Fraction
    state: State
    """The numbers left after the step, ascending."""

    @property
    def text(self) -> str:
        """The step as prompts write it: ``4 * 6 = 24 (left: 5 10 24)``."""
        return f"{self.left} {self.op} {self.right} = {self.result} (left: {show(self.state)})"


def show(state: State) -> str:
    """``5 10 24``; fractions as ``8/3``."""
    return " ".join(map(str, state))


def read(text: str) -> State:
    """Inverse of :func:`show`, in any order. Raises ValueError on anything but whole numbers and fractions."""
    if not all(
        _NUMBER.fullmatch(word) for word in text.split()
    ):  # Fraction reads "1e999999999" too, and takes for ever
        raise ValueError(f"{text[:80]!r} is not a list of whole numbers and fractions")
    try:
        return tuple(sorted(Fraction(word) for word in text.split()))
    except ZeroDivisionError as error:
        raise ValueError(f"{text!r} divides by zero") from error


def apply(left: Fraction, op: str, right: Fraction) -> Fraction | None:
    """The exact result, or None for a division by zero."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    return left / right if right else None


@cache
def steps(state: State) -> tuple[ArithmeticStep, ...]:
    """Every non-negative step, in reading order of the operands; one step per resulting state."""
    steps_by_state: dict[State, ArithmeticStep] = {}
    for i, j in combinations(range(len(state)), 2):
        rest = [number for k, number in enumerate(state) if k not in (i, j)]
        low, high = state[i], state[j]
        for left, op, right in (
            (low, "+", high),
            (high, "-", low),
            (low, "*", high),
            (high, "/", low),
            (low, "/", high),
        ):
            result = apply(left, op, right)
            if result is None:
                continue
            after = tuple(sorted((*rest, result)))
            if after not in steps_by_state:
                steps_by_state[after] = ArithmeticStep(left, op, right, result, after)
    return tuple(steps_by_state.values())


@cache
def solvable(state: State) -> bool:
    """Whether the numbers can make 24. Negative numbers never help a positive target, so none are made."""
    if len(state) == 1:
        return state[0] == TARGET
    return any(solvable(step.state) for step in steps(state))
