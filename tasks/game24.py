"""The exact checker of the Game of 24: legality, state keys and verification in rational arithmetic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from treeagent.checker import Checker

from .rational import TARGET, apply, read, show

STEP = re.compile(r"(\S+) ([-+*/]) (\S+) = (\S+) \(left: ([^)]*)\)")
_TOKEN = re.compile(r"\s*([0-9]+|[-+*/()])")


class Game24(Checker):
    """Registered as ``game24``."""

    def key(self, state: str) -> str:
        """The sorted multiset of the numbers, as exact fractions. Raises ValueError on anything else."""
        return show(read(state))

    def legal(self, parent: str, text: str, state: str) -> bool:
        """Both operands are there, the result is exact, and what is said to be left is what is left."""
        match = STEP.fullmatch(text)
        if match is None:
            return False
        left, op, right, result, rest = match.groups()
        try:
            numbers, used, claimed = Counter(read(parent)), Counter(read(f"{left} {right}")), read(result)
            after = Counter(read(rest))
        except ValueError:
            return False
        if used - numbers or len(claimed) != 1 or rest != state:
            return False
        return apply(Fraction(left), op, Fraction(right)) == claimed[0] and numbers - used + Counter(claimed) == after

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """An answer must use exactly the input's numbers and make 24; without one, the steps must lead to 24."""
        if answer is not None:
            return evaluate(answer) == (TARGET, tuple(sorted(read(input))))
        state = input
        for text in steps:
            match = STEP.fullmatch(text)
            if match is None or not self.legal(state, text, match[5]):
                return False
            state = match[5]
        return bool(steps) and self.key(state) == str(TARGET)


def evaluate(expression: str) -> tuple[Fraction, tuple[Fraction, ...]] | None:
    """Exact value of an expression and the numbers it uses, ascending; None when it is not one or divides by zero.

    A trailing ``= 24`` is allowed. Written as a parser: model output never reaches an interpreter.
    """
    text = re.sub(r"=\s*24\s*$", "", expression).strip()
    if len(text) > 100:  # no honest answer is longer, and the parser recurses three calls a bracket
        return None
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        tokens.append(match[1])
        at = match.end()
    parser = _Parser(tokens)
    try:
        value = parser.sum()
    except (ValueError, ZeroDivisionError):
        return None
    return (value, tuple(sorted(parser.used))) if not parser.tokens else None


class _Parser:
    """Recursive descent over ``sum := product (+|- product)*``, ``product := atom (*|/ atom)*``."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens[::-1]
        self.used: list[Fraction] = []

    def sum(self) -> Fraction:
        value = self._product()
        while self.tokens and self.tokens[-1] in "+-":
            value = value + self._product() if self.tokens.pop() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._atom()
        while self.tokens and self.tokens[-1] in "*/":
            value = value * self._atom() if self.tokens.pop() == "*" else value / self._atom()
        return value

    def _atom(self) -> Fraction:
        token = self.tokens.pop() if self.tokens else ""
        if token == "(":  # noqa: S105  a token of an expression, no password
            value = self.sum()
            if not self.tokens or self.tokens.pop() != ")":
                raise ValueError("a bracket is not closed")
            return value
        if not token.isdigit():
            raise ValueError(f"a number is expected, not {token!r}")
        self.used.append(Fraction(token))
        return self.used[-1]
