"""The rules of the puzzle."""

from __future__ import annotations

from collections.abc import Sequence

from treeagent import Checker


class Doubling(Checker):
    """A state is written ``3 of 10``: the number so far, and the number to reach."""

    def read(self, input: str) -> str:
        """The number as written. Raises ValueError for 1, which needs no step."""
        if input == "1":
            raise ValueError("expected a number above 1, because the puzzle begins at 1")
        return input

    def start(self, input: str) -> str:
        """The puzzle begins at 1."""
        return f"1 of {input}"

    def transition(self, parent: str, text: str) -> str | None:
        """The state after a step; None where the step is none or goes beyond the goal."""
        number, goal = (int(part) for part in parent.split(" of "))
        after = {"double": 2 * number, "add 1": number + 1}.get(text)
        return None if after is None or after > goal else f"{after} of {goal}"

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Whether the steps lead from 1 to the input."""
        state = self.start(input)
        for step in steps:
            after = self.transition(state, step)
            if after is None:
                return False
            state = after
        return state == f"{input} of {input}"
