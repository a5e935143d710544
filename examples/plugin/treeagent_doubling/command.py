"""A command of its own; treeagent makes its options from the parameters."""

from __future__ import annotations


def doubling_steps(goal: int = 10) -> None:
    """Print the fewest steps from 1 to a number."""
    steps = 0
    while goal > 1:
        goal, steps = (goal // 2, steps + 1) if goal % 2 == 0 else (goal - 1, steps + 1)
    print(steps)
