"""Arithmetic as people write it, in exact fractions. A parser; no text of a model is evaluated as code."""

from __future__ import annotations

import re
from fractions import Fraction


def value(text: str, number: str = r"[0-9]+") -> tuple[Fraction, tuple[Fraction, ...]] | None:
    """Exact value of ``+ - * /`` and brackets, and the numbers used, in order.

    ``number`` is the regular expression of a number that :class:`Fraction` can read. None for a text that is no
    expression, divides by zero, or is longer than 100 characters: no honest calculation is, and the parser recurses
    three calls a bracket.
    """
    text = text.strip()
    if len(text) > 100:
        return None
    token = re.compile(rf"\s*({number}|[-+*/()])")
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = token.match(text, at)
        if match is None:
            return None
        tokens.append(match[1])
        at = match.end()
    parser = _Parser(tokens)
    try:
        result = parser.sum()
    except (ValueError, ZeroDivisionError):
        return None
    return (result, tuple(parser.used)) if not parser.tokens else None


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
        if token in ("", "+", "-", "*", "/", ")"):
            raise ValueError(f"a number is expected, not {token!r}")
        self.used.append(Fraction(token))
        return self.used[-1]
