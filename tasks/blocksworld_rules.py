"""The blocks world: states, the four actions, and shortest plans. Exact, and without words.

The domain is the four-operator one of the planning competitions (Bacchus 2001, "The AIPS '00 planning competition"), as
used for language models by PlanBench (Valmeekam et al. 2022, arXiv:2206.10498).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TABLE = ""
"""The support of a block that stands on no other block."""
Name = Literal["pick up", "put down", "stack", "unstack"]
MOST_STATES = 10_000
"""States that the search for a shortest plan looks at: more than six blocks have."""
Goal = frozenset[tuple[str, str]]
"""Pairs of a block and its required support."""


@dataclass(frozen=True, slots=True)
class State:
    """Where each block is. Raises ValueError for what cannot be built."""

    on: tuple[tuple[str, str], ...]
    """Each block that stands with what it stands on, sorted."""
    held: str | None = None
    """The block in the hand."""

    def __post_init__(self) -> None:
        below = dict(self.on)
        if len(below) != len(self.on) or self.held in below:
            raise ValueError("a block is in two places")
        tops = [support for support in below.values() if support != TABLE]
        if len(set(tops)) != len(tops):
            raise ValueError("two blocks stand on the same block")
        grounded = {TABLE}
        for block in below:
            tower = dict.fromkeys([block])  # in order, and quick to look up
            while (support := below[next(reversed(tower))]) not in grounded:
                if support not in below or support in tower:
                    raise ValueError(f"there is no ground under {block!r}")
                tower[support] = None
            grounded.update(tower)

    @classmethod
    def of(cls, below: Mapping[str, str], held: str | None = None) -> State:
        """From each block's support."""
        return cls(tuple(sorted(below.items())), held)

    @property
    def blocks(self) -> set[str]:
        """Every block there is."""
        return {block for block, _ in self.on} | ({self.held} if self.held is not None else set())

    @property
    def clear(self) -> list[str]:
        """Blocks that stand and carry nothing, sorted."""
        carrying = {support for _, support in self.on}
        return [block for block, _ in self.on if block not in carrying]

    def meets(self, goal: Goal) -> bool:
        """Whether every pair of the goal holds."""
        return goal <= set(self.on)


@dataclass(frozen=True, slots=True)
class Action:
    """``pick up`` and ``put down`` concern the table, ``stack`` and ``unstack`` another block."""

    name: Name
    block: str
    other: str = TABLE

    @property
    def reverse(self) -> Action:
        """The action that undoes it."""
        names: dict[Name, Name] = {
            "pick up": "put down",
            "put down": "pick up",
            "stack": "unstack",
            "unstack": "stack",
        }
        return Action(names[self.name], self.block, self.other)


def actions(state: State) -> list[Action]:
    """Every legal action, sorted by block and place."""
    if state.held is not None:
        stacks = [Action("stack", state.held, other) for other in state.clear]
        return [Action("put down", state.held), *stacks]
    below = dict(state.on)
    return [Action("pick up" if below[block] == TABLE else "unstack", block, below[block]) for block in state.clear]


def apply(state: State, action: Action) -> State | None:
    """The state after an action; None where its preconditions do not hold."""
    if action not in actions(state):
        return None
    below = dict(state.on)
    if action.name in ("pick up", "unstack"):
        del below[action.block]
        return State.of(below, action.block)
    return State.of({**below, action.block: action.other})


def shortest_plan(state: State, goal: Goal) -> list[Action] | None:
    """A plan of the least length, the same one every time; None where there is none.

    Breadth-first, from the start alone: at most a few thousand states for the five blocks of the public problems.
    Raises ValueError where more states than :data:`MOST_STATES` would be looked at.
    """
    plans: dict[State, tuple[State, Action] | None] = {state: None}
    layer = [state]
    while layer:
        for reached in layer:
            if reached.meets(goal):
                return _way(reached, plans)
        following = []
        for parent in layer:
            for action in actions(parent):
                child = apply(parent, action)
                if child is not None and child not in plans:
                    plans[child] = (parent, action)
                    following.append(child)
                    if len(plans) > MOST_STATES:
                        raise ValueError("there are too many states for a shortest plan")
        layer = following
    return None


def _way(state: State, plans: Mapping[State, tuple[State, Action] | None]) -> list[Action]:
    plan: list[Action] = []
    while (link := plans[state]) is not None:
        state, action = link
        plan.append(action)
    return plan[::-1]
