"""The exact checker of the Game of 24: legality, state keys and verification in rational arithmetic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from treeagent.checker import Checker

from .expressions import value
from .game24_rules import TARGET, apply, read, show, solvable

STEP = re.compile(r"(\S+) ([-+*/]) (\S+) = (\S+) \(left: ([^)]*)\)")
_MOST_NUMBERS = 5


class Game24(Checker):
    """Registered as ``game24``."""

    brief = True

    def key(self, state: str) -> str:
        """The sorted multiset of the numbers, as exact fractions. Raises ValueError on anything else."""
        return show(read(state))

    def legal(self, parent: str, text: str, state: str) -> bool:
        """Both operands are numbers of the state, the result is exact, and the numbers left are the ones stated."""
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

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """Whether the numbers that are left can make 24; None for so many that it takes too long to tell."""
        numbers = read(state)
        return solvable(numbers) if len(numbers) <= _MOST_NUMBERS else None


def evaluate(expression: str) -> tuple[Fraction, tuple[Fraction, ...]] | None:
    """Exact value of an expression and the numbers it uses, ascending; None when it is not one or divides by zero.

    A trailing ``= 24`` is allowed.
    """
    result = value(re.sub(r"=\s*24\s*$", "", expression))
    return None if result is None else (result[0], tuple(sorted(result[1])))
